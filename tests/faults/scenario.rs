//! A scenario: a mechanism at a moment, on an engine. The table of all, and how one is run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::bed::{Bed, Engine, PATIENCE};
use crate::checker;
use crate::mechanism::Mechanism::{self, *};
use crate::moment::Moment::{self, *};
use crate::record::{self, Line, Outcome, Record, Recorder};
use crate::traffic::Traffic;

/// A mechanism at a moment, on an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scenario {
    pub(crate) engine: Engine,
    pub(crate) mechanism: Mechanism,
    pub(crate) moment: Moment,
    /// Of the set that every check runs.
    pub(crate) is_quick: bool,
}

/// What came of a scenario.
#[derive(Debug)]
pub(crate) struct Report {
    /// What cannot have been; empty if all is as promised.
    pub(crate) violations: Vec<String>,
    /// In a line.
    pub(crate) summary: String,
    /// Where the history is, if there are violations.
    pub(crate) history: Option<PathBuf>,
}

/// Moments of a mechanism, those of the quick set first.
type Row = (Mechanism, &'static [Moment], &'static [Moment]);

const REDIS: &[Row] = &[
    (HubKilled, &[Load, BeforeShow], &[Idle, BeforeSequencing, Replay, Drain]),
    (HubsKilled, &[], &[Load, BeforeSequencing, BeforeShow, Replay]),
    (HubStopped, &[], &[Idle, Load, BeforeShow, Replay, Drain]),
    (HubRestarted, &[Load], &[Idle, BeforeSequencing, BeforeShow, Replay]),
    (HubLeftBehind, &[Load], &[Idle]),
    (HubAway, &[], &[Idle, Load]),
    (HubKilledBehindNginx, &[], &[Load, BeforeShow]),
    (RollingRestart, &[Load], &[]),
    (RollingUpgrade, &[], &[Load]),
    (FormatRaised, &[], &[Load]),
    (RedisKilled, &[BeforeShow], &[Idle, Load, BeforeSequencing, Replay, Drain]),
    (RedisRestarted, &[], &[Load, BeforeSequencing, BeforeShow, Drain]),
    (RedisStopped, &[Drain], &[Idle, Load, Replay]),
    (RedisStoppedLong, &[], &[Load, Replay]),
    (RedisEmptied, &[Load, Replay], &[Idle, BeforeSequencing, BeforeShow, Drain]),
    (RedisOlder, &[BeforeSequencing], &[Idle, Load, BeforeShow, Replay, Drain]),
    (RedisOlderEpoch, &[], &[Idle, Load]),
    (RedisOlderCold, &[], &[Idle, Load]),
    (RedisOlderTwice, &[], &[Load]),
    (RedisEmptiedTwice, &[], &[Load]),
    (FailedOver, &[], &[Idle, Load, BeforeSequencing, BeforeShow, Replay, Drain]),
    (FailedOverLagging, &[BeforeShow], &[Idle, Load, BeforeSequencing, Replay, Drain]),
    (MasterDemoted, &[], &[Load, Idle, Replay]),
    (ClusterFailedOver, &[], &[Load, Idle, Replay]),
    (ClusterMasterKilled, &[], &[Load, Idle]),
    (SlotMoved, &[], &[Load, Idle, Replay]),
    (RedisPaused, &[], &[Load, Replay, Drain]),
    (RedisFull, &[Load], &[BeforeSequencing, Drain]),
    (ReplicasMissing, &[], &[Load, BeforeSequencing]),
    (ScriptsFlushed, &[BeforeSequencing], &[Idle, Load]),
    (ConnectionsKilled, &[BeforeShow], &[Idle, Load, BeforeSequencing, Replay, Drain]),
    (EngineCut, &[Replay], &[Idle, Load, BeforeSequencing, BeforeShow, Drain]),
    (EngineDelayed, &[], &[Load, Replay, Drain]),
    (EngineDripping, &[Load], &[Replay, Drain]),
    (EngineLostTo, &[], &[Load, Replay]),
    (EngineLostFrom, &[Load], &[Replay]),
    (EngineApart, &[], &[Load, Replay, Drain]),
    (HubApart, &[Load], &[Replay]),
    (HubApartEmptied, &[], &[Load, Replay]),
    (HubApartOlder, &[], &[Load, Replay]),
    (HubApartRestarted, &[], &[Load]),
    (SplitBrain, &[], &[Load]),
    (SplitBrainRefused, &[], &[Idle]),
    (ClientsCut, &[Replay], &[Idle, Load, BeforeShow, Drain]),
    (ClientsDelayed, &[], &[Load]),
    (ClientsDripping, &[], &[Load]),
    (ClientsLostTo, &[], &[Load]),
    (ClientsLostFrom, &[], &[Load]),
];

const DISK: &[Row] = &[
    (HubKilled, &[BeforeDurable, Drain], &[Idle, Load, Replay]),
    (HubStopped, &[], &[Load, BeforeDurable, Replay, Drain]),
    (HubRestarted, &[Replay], &[Idle, Load, BeforeDurable]),
    (HubTakenOver, &[Load], &[Idle, BeforeDurable, Replay]),
    (HubFailed, &[BeforeDurable], &[]),
    (PowerCut, &[Load], &[Idle, BeforeDurable, Replay, Drain]),
    (ClientsCut, &[], &[Idle, Load, BeforeDurable, Replay, Drain]),
    (ClientsDelayed, &[], &[Load]),
    (ClientsDripping, &[Load], &[BeforeDurable]),
    (ClientsLostTo, &[], &[Load]),
    (ClientsLostFrom, &[], &[Load, BeforeDurable]),
];

/// Scenarios that are known to fail, and why. They are reported, and fail no run.
const KNOWN: &[(Engine, Mechanism, &str)] = &[(
    Engine::Redis,
    SplitBrain,
    "with two masters, acknowledged events are lost and out of order",
)];

/// All scenarios.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (engine, rows) in [(Engine::Redis, REDIS), (Engine::Disk, DISK)] {
        for (mechanism, quick, others) in rows {
            for (moments, is_quick) in [(quick, true), (others, false)] {
                let of = |&moment| Scenario { engine, mechanism: *mechanism, moment, is_quick };
                all.extend(moments.iter().map(of));
            }
        }
    }
    all
}

impl Scenario {
    /// Its name: engine, mechanism, moment.
    pub(crate) fn name(&self) -> String {
        let engine = match self.engine {
            Engine::Redis => "redis",
            Engine::Disk => "disk",
        };
        format!("{engine}/{}/{}", self.mechanism.name(), self.moment.name())
    }

    /// Why it is known to fail.
    pub(crate) fn known_fault(&self) -> Option<&'static str> {
        let is = |known: &&(Engine, Mechanism, &str)| {
            known.0 == self.engine && known.1 == self.mechanism
        };
        KNOWN.iter().find(is).map(|known| known.2)
    }

    /// Whether it needs strace.
    pub(crate) fn needs_strace(&self) -> bool {
        self.moment == BeforeDurable && self.mechanism != PowerCut
    }

    /// Begins its history.
    pub(crate) fn recorder(&self, seed: u64) -> Recorder {
        Recorder::new(&self.name(), seed, self.mechanism.kept_min())
    }

    /// Writes a history, and beside it why; its path.
    pub(crate) fn keep(
        &self,
        seed: u64,
        recorder: &Recorder,
        why: &str,
        histories: &Path,
    ) -> PathBuf {
        let name = format!("{}-{seed}", self.name().replace('/', "-"));
        let path = histories.join(format!("{name}.jsonl"));
        std::fs::create_dir_all(histories).expect("a directory for histories");
        record::write(&path, &recorder.lines()).expect("the history is written");
        std::fs::write(path.with_extension("txt"), why).expect("the reason is written");
        path
    }

    /// Runs it, and judges it.
    pub(crate) async fn run(&self, seed: u64, recorder: Recorder, histories: &Path) -> Report {
        let began = Instant::now();
        let mut setup = self.mechanism.setup();
        if self.moment == BeforeDurable {
            match self.mechanism {
                PowerCut => setup.sync_time = Duration::from_millis(50),
                HubFailed => setup.inject = Some("fdatasync:error=EIO:when=60"),
                _ => setup.inject = Some("fdatasync:delay_enter=50000"),
            }
        }
        let mut bed = Bed::start(self.engine, setup, seed, recorder.clone()).await;
        let mut traffic = Traffic::start(&bed, seed).await;
        if self.moment == Replay {
            traffic.publish_backlog(0, 100).await;
        }
        assert!(traffic.acknowledged(20).await, "no publish is acknowledged\n{}", bed.stderr());
        self.mechanism.prepare(&mut bed, &mut traffic).await;
        self.moment.engage(&mut bed, &mut traffic).await;
        self.mechanism.strike(&mut bed, &mut traffic, self.moment).await;
        self.moment.release(&mut bed, &mut traffic).await;
        let is_alive = traffic.acknowledged(20).await;
        if !is_alive {
            let what = "publishes are not acknowledged in the 30 s behind the fault".to_owned();
            recorder.note(Record::Odd { what });
        }
        let ends = traffic.finish(is_alive).await;
        bed.note_logs(&ends, if is_alive { PATIENCE } else { Duration::ZERO }).await;
        let lines = recorder.lines();
        let violations = checker::violations(&lines);
        let mut history = None;
        if !violations.is_empty() {
            let text = format!("{}\n\n{}", violations.join("\n"), bed.stderr());
            history = Some(self.keep(seed, &recorder, &text, histories));
        }
        Report { violations, summary: summary(&lines, began.elapsed()), history }
    }
}

/// In a line: how much of what there was, and how soon it went on.
fn summary(lines: &[Line], took: Duration) -> String {
    let count =
        |wanted: fn(&Record) -> bool| lines.iter().filter(|line| wanted(&line.record)).count();
    let outcome = |wanted: fn(&Outcome) -> bool| {
        let is = |line: &&Line| matches!(&line.record, Record::Answer { outcome, .. } if wanted(outcome));
        lines.iter().filter(is).count()
    };
    let mended = lines
        .iter()
        .rev()
        .find(|line| matches!(&line.record, Record::Fault { what } if what == "mended"));
    let after = |wanted: fn(&Record) -> bool| {
        let mended = mended?.at_us;
        let first = lines.iter().find(|line| line.at_us > mended && wanted(&line.record))?;
        Some((first.at_us - mended) / 1_000)
    };
    let acked =
        after(|record| matches!(record, Record::Answer { outcome: Outcome::Acked { .. }, .. }));
    let received = after(|record| matches!(record, Record::Event { .. }));
    let ms = |time: Option<u64>| time.map_or("never".to_owned(), |time| format!("{time} ms"));
    format!(
        "{} acknowledged, {} refused, {} unknown; {} received, {} gaps, {} connects; on after {} \
         and {}; {:.1} s",
        outcome(|outcome| matches!(outcome, Outcome::Acked { .. })),
        outcome(|outcome| *outcome == Outcome::Refused),
        outcome(|outcome| *outcome == Outcome::Unknown),
        count(|record| matches!(record, Record::Event { .. })),
        count(|record| matches!(record, Record::Gap { .. })),
        count(|record| matches!(record, Record::Connect { .. })),
        ms(acked),
        ms(received),
        took.as_secs_f64(),
    )
}

/// docs/reliability.md has each scenario, and marks those that are known to fail.
#[test]
fn the_documentation_has_each_scenario() {
    use std::collections::BTreeSet;
    let page = include_str!("../../docs/reliability.md");
    let mut documented = BTreeSet::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some(name) = cells.get(1).and_then(|cell| cell.strip_prefix('`')) else { continue };
        let name = name.trim_end_matches('`');
        if !name.starts_with("redis/") && !name.starts_with("disk/") {
            continue;
        }
        for moment in cells[3].split(", ") {
            let name = format!("{name}/{moment}");
            let known = all().iter().any(|it| it.name() == name && it.known_fault().is_some());
            assert_eq!(cells[4].contains("**fails**"), known, "{name}: {}", cells[4]);
            assert!(documented.insert(name.clone()), "{name} is there twice");
        }
    }
    let wanted: BTreeSet<String> = all().iter().map(Scenario::name).collect();
    let (missing, surplus) = (&wanted - &documented, &documented - &wanted);
    assert!(missing.is_empty() && surplus.is_empty(), "missing {missing:?}, surplus {surplus:?}");
    assert_eq!(wanted.len(), all().len(), "names are distinct");
    assert!(wanted.len() >= 40);
}
