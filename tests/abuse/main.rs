//! The real binary under attack, while honest subscribers receive events: they lose nothing, in
//! order, and wait not much longer than before.
//!
//! `tests/abuse/run` starts it, with an optimised build. Every attack has a hub of its own and is
//! bounded in connections, bytes and time; it prints what the attackers got and what the honest
//! saw.

mod attacks;
mod bodies;
mod connections;
mod heads;
mod http2;
mod processor;
mod publishes;
mod readers;
mod smuggling;
mod subscriptions;
mod target;
mod tls;
mod tokens;

use std::{collections::HashMap, fmt::Write as _, io, path::PathBuf, thread, time::Duration};

use attacks::{ATTACKS, Attack, HubKind, ONE_OF_EACH_KIND, UNBOUNDED};
use processor::Processor;
use serde_json::json;
use target::{Seen, Target};
use tempfile::TempDir;
use tls::TlsAudience;
use tokio::time::timeout;
use visnyk_loadtest::{
    Audience, Exchange, Hub, HubCommand, Received, Subject, in_full, subject::post_request,
};

/// The channel of the honest.
const AUDIENCE: &str = "audience";
const SUBSCRIBERS: usize = 1_000;
/// Over TLS they cost this process ten times as much.
const TLS_SUBSCRIBERS: u64 = 100;
const EVENTS_PER_S: f64 = 100.0;

/// What an honest subscriber may wait at the 99th percentile: so many times what it waits while it
/// is calm.
const TIMES: u32 = 3;

/// How attacks are run and judged. In every mode nothing may be lost, no attacker may find what it
/// must not, and each attack must come about.
struct Mode {
    /// How long an attack lasts.
    attack: Duration,
    /// How long it is calm before the first attack on a kind of hub; none where latency is not
    /// judged.
    calm: Option<Duration>,
    /// An honest subscriber may always wait so long.
    always_good: Duration,
    /// Whether one attack of each kind is enough.
    one_of_each_kind: bool,
}

/// Part of every check. Latency is not judged: on two processors the scheduler has a third of it.
const QUICK: Mode = Mode {
    attack: Duration::from_secs(2),
    calm: None,
    always_good: Duration::MAX,
    one_of_each_kind: true,
};
/// What fails a change on any machine: a hub that is held up. Where nothing bounds an attack that
/// shows as seconds: `attacks_hurt_where_nothing_bounds_them`.
const ANYWHERE: Mode = Mode {
    attack: Duration::from_secs(3),
    calm: Some(Duration::from_secs(3)),
    always_good: Duration::from_millis(250),
    one_of_each_kind: false,
};
/// On a machine that does nothing else.
const STRICT: Mode = Mode { always_good: Duration::ZERO, ..ANYWHERE };

impl Mode {
    fn of_this_run() -> Self {
        match std::env::var("VISNYK_ABUSE_MODE").as_deref() {
            Ok("quick") => QUICK,
            Ok("strict") => STRICT,
            Ok(other) => panic!("VISNYK_ABUSE_MODE is quick or strict, not {other}"),
            Err(_) => ANYWHERE,
        }
    }
}

/// The calm 99th percentile of each kind of hub, measured before the first attack on it.
#[derive(Default)]
struct Sitting(HashMap<HubKind, Duration>);

/// How often an attack may be tried until the honest do not wait too long.
const TRIES: usize = 3;

/// How long the hub may take to answer afterwards.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one attack came to.
struct Outcome {
    name: &'static str,
    seen: Seen,
    /// What it was to get, and did not: it did not come about.
    missing: Vec<&'static str>,
    /// The 99th percentile of this kind of hub while it is calm; none if latency is not judged.
    calm: Option<Duration>,
    attacked: Result<Received, String>,
    resident_mb: u64,
    /// Of the hub, of the honest and of the attackers, in this order, while it was attacked.
    processor: [Processor; 3],
    faults: Vec<String>,
}

impl Outcome {
    /// Whether the honest waited too long.
    fn is_too_slow(&self) -> bool {
        let Some(calm) = self.calm else { return false };
        let bound = Mode::of_this_run().always_good.max(TIMES * calm);
        self.attacked.as_ref().is_ok_and(|received| received.p99 > bound)
    }

    /// Whether another try may have another outcome. What must not happen fails at once.
    fn may_be_chance(&self) -> bool {
        self.faults.is_empty() && (self.is_too_slow() || !self.missing.is_empty())
    }

    /// Everything that is wrong.
    fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.clone();
        if !self.missing.is_empty() {
            faults.push(format!("it did not come about: no {}", self.missing.join(", no ")));
        }
        if self.is_too_slow() {
            let p99 = self.attacked.as_ref().map(|received| received.p99);
            faults.push(format!("p99 {p99:?} under attack, {:?} when it is calm", self.calm));
        }
        faults
    }
}

#[test]
#[ignore = "tests/abuse/run starts it, with an optimised build of the hub"]
fn honest_subscribers_lose_nothing_and_wait_little() {
    let wanted = std::env::var("VISNYK_ABUSE_ONLY").unwrap_or_default();
    let is_wanted = |attack: &&Attack| match wanted.is_empty() {
        true => !Mode::of_this_run().one_of_each_kind || ONE_OF_EACH_KIND.contains(&attack.name),
        false => wanted.split(',').any(|part| attack.name.contains(part)),
    };
    let mut sitting = Sitting::default();
    let mut tries = 0;
    let outcomes: Vec<Outcome> = ATTACKS
        .iter()
        .filter(is_wanted)
        .map(|attack| {
            let outcome = endure_again(attack, &mut sitting, &mut tries);
            println!("{}", row(&outcome));
            outcome
        })
        .collect();
    println!("\n{}", table(&outcomes));
    println!("attacks tried again: {}", tries - outcomes.len());
    let faults: Vec<String> = outcomes
        .iter()
        .flat_map(|outcome| {
            outcome.faults().into_iter().map(|fault| format!("{}: {fault}", outcome.name))
        })
        .collect();
    assert!(!outcomes.is_empty() && faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The other side of the test: it sees an attack that nothing bounds.
#[test]
#[ignore = "tests/abuse/run starts it, with an optimised build of the hub"]
fn attacks_hurt_where_nothing_bounds_them() {
    if Mode::of_this_run().calm.is_none() {
        println!("latency is not judged in this mode");
        return;
    }
    let outcome = endure_again(&UNBOUNDED, &mut Sitting::default(), &mut 0);
    println!("{}", row(&outcome));
    assert!(!outcome.faults().is_empty(), "{:?} after {:?}", outcome.attacked, outcome.calm);
}

/// Runs an attack, and again if the honest waited too long, or if it did not come about: what else
/// this machine has to do hurts once, and an attack that hurts does so every time.
fn endure_again(attack: &Attack, sitting: &mut Sitting, tries: &mut usize) -> Outcome {
    until_reported(|| {
        *tries += 1;
        endure(attack, sitting)
    })
}

fn until_reported(mut endure: impl FnMut() -> Outcome) -> Outcome {
    for _ in 1..TRIES {
        let outcome = endure();
        if !outcome.may_be_chance() {
            return outcome;
        }
    }
    endure()
}

/// The honest of one attack.
enum Honest {
    Plain(Box<Audience>),
    Tls(TlsAudience),
}

impl Honest {
    fn receive(&mut self, events: u32, begin: impl FnOnce()) -> Result<Received, String> {
        match self {
            Self::Plain(audience) => {
                let received = audience.receive(events, EVENTS_PER_S, begin);
                received.map_err(|failure| in_full(&failure))
            }
            Self::Tls(audience) => audience.receive(events, EVENTS_PER_S, begin),
        }
    }
}

/// Runs one attack against a hub of its own.
fn endure(attack: &Attack, sitting: &mut Sitting) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (hub, _directory) = runtime.block_on(start(attack));
    let address = hub.address();
    let mut subject = Subject::visnyk(address, hub.pid());
    if attack.hub == HubKind::Tokens {
        subject.publish = |subject, channel, body| {
            let token = tokens::good(json!({"sub": "honest", "visnyk": {"publish": [AUDIENCE]}}));
            let request = post_request(
                subject,
                &format!("/v1/channels/{channel}/events"),
                "text/plain",
                body,
            );
            let text = String::from_utf8(request).expect("ASCII");
            text.replacen("\r\n", &format!("\r\nAuthorization: Bearer {token}\r\n"), 1).into_bytes()
        };
    }
    let mut honest = match attack.hub {
        HubKind::Tls => Honest::Tls(TlsAudience::connect(address, TLS_SUBSCRIBERS)),
        _ => {
            let audience = Audience::connect(&subject, AUDIENCE, SUBSCRIBERS);
            Honest::Plain(Box::new(audience.expect("they connect")))
        }
    };
    let events = |time: Duration| (time.as_secs_f64() * EVENTS_PER_S) as u32;
    let mode = Mode::of_this_run();
    let calm = mode.calm.map(|calm| {
        *sitting.0.entry(attack.hub).or_insert_with(|| {
            let received = honest.receive(events(calm), || {});
            received.unwrap_or_else(|failure| panic!("{}: {failure}", attack.name)).p99
        })
    });
    let mut attackers = None;
    let pid = hub.pid();
    let [hub_before, honest_before] = [Processor::of_process(pid), Processor::of_this_thread()];
    let attacked = honest.receive(events(mode.attack), || {
        let run = attack.run;
        attackers = Some(thread::spawn(move || {
            Target::suffer(address, mode.attack, mode.calm.is_some(), run)
        }));
    });
    let of_hub = Processor::of_process(pid) - hub_before;
    let of_honest = Processor::of_this_thread() - honest_before;
    let resident_mb = hub.resident_bytes().unwrap_or_default() / 1_000_000;
    let mut faults = Vec::new();
    let attackers = attackers.expect("it was begun").join();
    let (seen, of_attackers) = attackers.unwrap_or_else(|_| {
        faults.push("the attack panicked, see above".to_owned());
        Default::default()
    });
    faults.extend(seen.faults.iter().cloned());
    faults.extend(attacked.as_ref().err().cloned());
    let missing = attack.must.iter().filter(|what| !seen.got.contains_key(**what));
    let missing = missing.copied().collect();
    faults.extend(runtime.block_on(look_after(attack, &hub)));
    let processor = [of_hub, of_honest, of_attackers];
    Outcome { name: attack.name, seen, missing, calm, attacked, resident_mb, processor, faults }
}

async fn start(attack: &Attack) -> (Hub, TempDir) {
    let binary = std::env::var_os("VISNYK_BIN").map(PathBuf::from);
    let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_visnyk").into());
    let mut command = HubCommand::new(binary).directory(env!("CARGO_TARGET_TMPDIR"));
    // The hub has read it by the time it listens; a certificate it may look at again.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    match attack.hub {
        HubKind::Plain => {}
        HubKind::Tokens => {
            let key = directory.path().join("key.pem");
            std::fs::write(&key, tokens::public_key()).expect("a file");
            command = command
                .env("VISNYK_JWT_SECRET", tokens::SECRET)
                .env("VISNYK_ALLOW_ANONYMOUS", AUDIENCE)
                .env("VISNYK_AUTH__PUBLIC_KEY_FILES", format!("RS256:{}", key.display()));
        }
        HubKind::Tls => {
            tls::write_certificate(directory.path());
            command = command
                .env("VISNYK_TLS_CERT", directory.path().join("cert.pem"))
                .env("VISNYK_TLS_KEY", directory.path().join("key.pem"));
        }
    }
    (command.settings(attack.settings).start().await.expect("the hub starts"), directory)
}

/// What is wrong with the hub afterwards. What it does not answer is wrong too.
async fn look_after(attack: &Attack, hub: &Hub) -> Vec<String> {
    let mut faults = Vec::new();
    match ask(attack, hub, "/healthz").await {
        Ok((200, _)) => {}
        Ok((status, _)) => faults.push(format!("its health afterwards: {status}")),
        Err(error) => faults.push(format!("it does not answer afterwards: {error}")),
    }
    match ask(attack, hub, "/metrics").await {
        Ok((200, metrics)) => faults.extend(breakdowns(&metrics)),
        Ok((status, _)) => faults.push(format!("its metrics afterwards: {status}")),
        Err(error) => faults.push(format!("it does not tell its metrics afterwards: {error}")),
    }
    match ask(attack, hub, "/v1/channels/smuggled").await {
        Ok((404, _)) => {}
        Ok((status, _)) => faults.push(format!("something was smuggled in: {status}")),
        Err(error) => faults.push(format!("whether something was smuggled in: {error}")),
    }
    faults
}

/// The status and body of an answer to an admin.
async fn ask(attack: &Attack, hub: &Hub, target: &str) -> io::Result<(u16, String)> {
    if attack.hub == HubKind::Tls {
        return timeout(PATIENCE, tls::ask(hub.address(), target)).await?;
    }
    let token = match attack.hub {
        HubKind::Tokens => Some(tokens::good(json!({"sub": "keeper", "visnyk": {"admin": true}}))),
        _ => None,
    };
    let bearer = token.map(|token| format!("Bearer {token}"));
    let fields: Vec<(&str, &str)> =
        bearer.iter().map(|bearer| ("Authorization", &**bearer)).collect();
    let answer =
        Exchange::new(hub.address()).request("GET", target, &fields, b"", PATIENCE).await?;
    Ok((answer.status(), answer.body))
}

/// The lines of metrics about parts of the hub that crashed and were restarted.
fn breakdowns(metrics: &str) -> Vec<String> {
    let is_breakdown = |line: &&str| {
        let is_count = line.contains("panicked") || line.starts_with("visnyk_restarts");
        is_count && !line.ends_with(" 0")
    };
    metrics.lines().filter(is_breakdown).map(str::to_owned).collect()
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text =
        "| attack | what the attackers got | honest deliveries | lost | p99 calm, \
                    ms | p99 attacked, ms | ratio | resident, MB | hub, honest, attackers: ran and waited for \
                    a processor, s |\n|---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for outcome in outcomes {
        let _ = writeln!(text, "{}", row(outcome));
    }
    text
}

fn row(outcome: &Outcome) -> String {
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let got = outcome.seen.got.iter().chain(&outcome.seen.errors);
    let got = got.map(|(what, count)| format!("{count} {what}"));
    let got = got.collect::<Vec<_>>().join(", ");
    let calm = outcome.calm.map_or_else(String::new, |calm| format!("{:.1}", ms(calm)));
    let (name, resident) = (outcome.name, outcome.resident_mb);
    let processor = outcome.processor.map(|Processor { ran, waited }| {
        format!("{:.1} {:.1}", ran.as_secs_f64(), waited.as_secs_f64())
    });
    let processor = processor.join(", ");
    match &outcome.attacked {
        Ok(received) => {
            let (deliveries, p99) = (received.deliveries, ms(received.p99));
            let ratio =
                outcome.calm.map_or_else(String::new, |calm| format!("{:.1}", p99 / ms(calm)));
            format!(
                "| {name} | {got} | {deliveries} | 0 | {calm} | {p99:.1} | {ratio} | {resident} | \
                 {processor} |"
            )
        }
        Err(failure) => {
            format!("| {name} | {got} | {failure} | | {calm} | | | {resident} | {processor} |")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What an attack came to that went well but for this.
    fn outcome(p99_ms: u64, missing: &[&'static str], faults: &[&str]) -> Outcome {
        let ms = Duration::from_millis;
        let received =
            Received { events: 1, deliveries: 1, p50: ms(1), p99: ms(p99_ms), max: ms(p99_ms) };
        Outcome {
            name: "an attack",
            seen: Seen { got: BTreeMap::from([("429".to_owned(), 1)]), ..Seen::default() },
            missing: missing.to_vec(),
            calm: Some(ms(1)),
            attacked: Ok(received),
            resident_mb: 1,
            processor: Default::default(),
            faults: faults.iter().map(|&fault| fault.to_owned()).collect(),
        }
    }

    #[test]
    fn a_finding_is_reported_though_the_honest_waited_too_long() {
        let mut tries = [
            outcome(10_000, &[], &["a forged token was taken"]),
            outcome(1, &[], &[]),
            outcome(1, &[], &[]),
        ]
        .into_iter();
        let result = until_reported(|| tries.next().expect("it is tried three times at most"));
        assert_eq!(result.faults()[0], "a forged token was taken");
    }

    #[test]
    fn what_may_be_chance_is_tried_again() {
        for chance in [outcome(10_000, &[], &[]), outcome(1, &["429"], &[])] {
            assert_eq!(chance.faults().len(), 1);
            let mut tries = [chance, outcome(1, &[], &[])].into_iter();
            let result = until_reported(|| tries.next().expect("the second is good"));
            assert!(result.faults().is_empty());
        }
        let result = until_reported(|| outcome(1, &["429"], &[]));
        assert_eq!(result.faults(), ["it did not come about: no 429"]);
    }

    #[test]
    fn one_attack_of_each_kind_is_in_the_table() {
        for name in ONE_OF_EACH_KIND {
            assert!(ATTACKS.iter().any(|attack| attack.name == *name), "{name}");
        }
    }

    #[test]
    fn restarts_and_panics_are_breakdowns() {
        let metrics = "visnyk_restarts_total{reason=\"shard\"} 1\nvisnyk_streams 3\n\
                       visnyk_connections_closed_total{reason=\"panicked\"} 0\n";
        assert_eq!(breakdowns(metrics), ["visnyk_restarts_total{reason=\"shard\"} 1"]);
    }
}
