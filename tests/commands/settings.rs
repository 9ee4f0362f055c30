//! Settings from their layers: which wins, where a value came from, and what refusals say.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use tempfile::TempDir;
use visnyk::core::SlowPolicy;
use visnyk::server::settings::{Effective, Settings, SettingsError, Sources};
use visnyk::telemetry::LogFormat;

#[test]
fn without_any_source_everything_is_default() {
    let directory = Directory::new();
    let effective = directory.load();
    assert_eq!(effective.settings(), &Settings::default());
    assert_eq!(effective.files().count(), 0);
    for entry in effective.entries() {
        assert_eq!(entry.set_by, "default", "{}", entry.key.name);
    }
}

#[test]
fn later_layers_win_key_by_key() {
    let directory = Directory::new()
        .file(
            "visnyk.toml",
            "drain_window_s = 1\nheader_read_timeout_s = 1\nbody_read_timeout_s = 1\n\
             [log]\nlevel = \"warn\"\nformat = \"json\"\n[limits.poll]\nlimit = 1\n",
        )
        .file(
            "visnyk.test.toml",
            "header_read_timeout_s = 2\nbody_read_timeout_s = 2\nlog.level = \"error\"\n",
        );
    let sources = directory
        .sources()
        .profile(Some("test".to_owned()))
        .environment([
            variable("VISNYK_BODY_READ_TIMEOUT_S", "3"),
            variable("VISNYK_LOG__LEVEL", "debug"),
        ])
        .flag("--log-level", "log.level", "trace");
    let effective = Settings::load(&sources).expect("good settings");

    let settings = effective.settings();
    assert_eq!(settings.drain_window_s, 1);
    assert_eq!(settings.header_read_timeout_s, 2);
    assert_eq!(settings.body_read_timeout_s, 3);
    assert_eq!(settings.log.level, "trace");
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.limits.poll.limit, 1);
    assert_eq!(settings.limits.poll.limit_max, Settings::default().limits.poll.limit_max);

    let set_by = |key| effective.set_by(key).expect("a key").replace(&directory.prefix(), "");
    assert_eq!(set_by("drain_window_s"), "visnyk.toml:1");
    assert_eq!(set_by("header_read_timeout_s"), "visnyk.test.toml:1");
    assert_eq!(set_by("body_read_timeout_s"), "environment VISNYK_BODY_READ_TIMEOUT_S");
    assert_eq!(set_by("log.level"), "flag --log-level");
    assert_eq!(set_by("log.format"), "visnyk.toml:6");
    assert_eq!(set_by("limits.poll.limit"), "visnyk.toml:8");
    assert_eq!(set_by("limits.poll.limit_max"), "default");
    assert_eq!(effective.set_by("nonsense"), None);
    let files: Vec<_> = effective.files().map(|path| path.file_name()).collect();
    assert_eq!(files, [Some("visnyk.toml".as_ref()), Some("visnyk.test.toml".as_ref())]);
}

#[test]
fn a_list_replaces_the_list_below_it() {
    let directory = Directory::new().file("visnyk.toml", "listen = [\"127.0.0.1:1\", \"[::1]:1\"]");
    let sources =
        directory.sources().environment([variable("VISNYK_LISTEN", "127.0.0.1:0, [::1]:0")]);
    let listen = Settings::load(&sources).expect("good settings").into_settings().listen;
    assert_eq!(
        listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["127.0.0.1:0", "[::1]:0"]
    );
}

#[test]
fn one_address_may_stand_alone_in_a_file() {
    let directory = Directory::new().file("visnyk.toml", "listen = \"localhost:8080\"");
    assert_eq!(directory.load().settings().listen[0].to_string(), "127.0.0.1:8080");
}

#[test]
fn a_port_alone_is_every_address_and_is_refused_without_authentication() {
    let listening = |sources: Sources| {
        Settings::load(&sources).map(|effective| {
            let listen = &effective.settings().listen;
            listen.iter().map(ToString::to_string).collect::<Vec<_>>()
        })
    };
    let directory = Directory::new();
    let every = || directory.sources().flag("--listen", "listen", ":8080");
    let open = listening(every().flag("--insecure", "insecure", "true")).expect("it is asked for");
    assert_eq!(open, ["0.0.0.0:8080", "[::]:8080"]);
    let refused = listening(every()).expect_err("nothing authenticates clients").to_string();
    assert!(refused.contains("listen = 0.0.0.0:8080 (flag --listen) reaches beyond"), "{refused}");
    let in_a_file =
        Directory::new().file("visnyk.toml", "listen = [\":1\", \"127.0.0.1:2\"]\ninsecure = true");
    assert_eq!(in_a_file.load().settings().listen.len(), 3);
}

#[test]
fn every_key_can_be_set_by_its_variable() {
    let directory = Directory::new();
    let defaults = directory.load();
    for entry in defaults.entries() {
        let text = entry.value.trim_matches(['[', ']']).replace(['"', ' '], "");
        let sources =
            directory.sources().environment([(entry.key.variable().into(), OsString::from(text))]);
        let effective = Settings::load(&sources).expect("a default is a good value");
        assert_eq!(effective.settings(), defaults.settings());
        let expected = format!("environment {}", entry.key.variable());
        assert_eq!(effective.set_by(entry.key.name), Some(&*expected));
    }
}

#[test]
fn variables_of_the_command_line_are_passed_over() {
    let directory = Directory::new();
    let sources = directory.sources().environment([
        variable("VISNYK_URL", "http://127.0.0.1:3000"),
        variable("VISNYK_TOKEN", "t"),
        variable("VISNYK_CONFIG", "c"),
        variable("VISNYK_PROFILE", "p"),
        variable("VISNYK_BIN", "b"),
        variable("PATH", "/bin"),
        variable("visnyk_listen", "x"),
    ]);
    assert_eq!(Settings::load(&sources).expect("good").settings(), &Settings::default());
}

#[test]
fn the_profile_is_looked_for_beside_the_file() {
    let directory = Directory::new()
        .file("elsewhere/hub.toml", "shards = 3")
        .file("elsewhere/visnyk.test.toml", "drain_window_s = 4");
    let sources = Sources::in_directory("/nowhere")
        .config(Some(directory.path().join("elsewhere/hub.toml")))
        .profile(Some("test".to_owned()));
    let settings = Settings::load(&sources).expect("good settings").into_settings();
    assert_eq!((settings.shards, settings.drain_window_s), (3, 4));
}

#[test]
fn a_profile_works_without_a_main_file() {
    let directory = Directory::new().file("visnyk.test.toml", "shards = 2");
    let sources = directory.sources().profile(Some("test".to_owned()));
    assert_eq!(Settings::load(&sources).expect("good").settings().shards, 2);
}

#[test]
fn files_that_were_asked_for_must_exist() {
    let directory = Directory::new();
    let path = directory.path().join("other.toml");
    assert_eq!(
        directory.refusal(directory.sources().config(Some(path))),
        ["--config (or VISNYK_CONFIG) asks for other.toml, which does not exist"]
    );
    assert_eq!(
        directory.refusal(directory.sources().profile(Some("prod".to_owned()))),
        ["--profile (or VISNYK_PROFILE) asks for visnyk.prod.toml, which does not exist"]
    );
}

#[test]
fn a_profile_is_no_path() {
    let directory = Directory::new();
    assert_eq!(
        directory.refusal(directory.sources().profile(Some("../prod".to_owned()))),
        ["profile \"../prod\" is refused: allowed are 1 to 64 letters, digits, - and _"]
    );
}

#[test]
fn every_mistake_is_reported_with_its_source() {
    let directory = Directory::new().file(
        "visnyk.toml",
        "log = 3\n\
         [limits]\n\
         poll.limt = 4\n\
         poll.limit = 0\n\
         history = { bytes_max = -1, colour = \"red\" }\n\
         [connections]\n\
         heartbeat_s = 15\n",
    );
    let sources = directory
        .sources()
        .environment([
            variable("VISNYK_LIMITS__POLL__TIMEOUT_S", "1 minute"),
            variable("VISNYK_QUICKSTART", "no"),
            variable("VISNYK_Listen", "127.0.0.1:1"),
        ])
        .flag("--listen", "listen", "example.org:80")
        .flag("--log-format", "log.format", "xml")
        .flag("--log-level", "log.level", "inof");
    assert_eq!(
        directory.refusal(sources),
        [
            "unknown setting log = 3 (visnyk.toml:1): in log there are format, level, access, queue_bytes_max, sync, segment_bytes, bytes_max, age_max_s, read_threads, read_queue_max, read_piece_bytes, read_bytes_max, read_cache_bytes_max, search_bytes_max, search_memory_bytes_max",
            "unknown setting limits.poll.limt = 4 (visnyk.toml:3): did you mean limits.poll.limit?",
            "limits.poll.limit = 0 (visnyk.toml:4) is refused: \
         allowed is a whole number from 1 to 1000000",
            "limits.history.bytes_max = -1 (visnyk.toml:5) is refused: \
         allowed is a whole number from 1 to 1099511627776",
            "unknown setting limits.history.colour = \"red\" (visnyk.toml:5): \
         in limits.history there are events_max, age_max_s, bytes_max, total_bytes_max",
            "unknown setting connections.heartbeat_s = 15 (visnyk.toml:7): \
         did you mean limits.connections.heartbeat_s?",
            "limits.poll.timeout_s = \"1 minute\" (environment VISNYK_LIMITS__POLL__TIMEOUT_S) \
         is refused: allowed is a whole number from 1 to 86400",
            "unknown setting Listen = \"127.0.0.1:1\" (environment VISNYK_Listen): \
         did you mean listen?",
            "quickstart = \"no\" (environment VISNYK_QUICKSTART) is refused: allowed is true or false",
            "listen = \"example.org:80\" (flag --listen) is refused: allowed is an IP address and port \
         such as 127.0.0.1:3000, [::1]:3000 or localhost:3000, :3000 for every address of this machine, \
         or several",
            "log.format = \"xml\" (flag --log-format) is refused: allowed is text or json",
            "log.level = \"inof\" (flag --log-level) is refused: allowed is off, error, warn, info, \
         debug or trace, also by module as in info,visnyk::http=debug",
        ]
    );
}

#[test]
fn values_of_the_wrong_type_are_refused_not_converted() {
    for (line, allowed) in [
        ("shards = \"2\"", "a whole number from 0 to 1024"),
        ("shards = 2.0", "a whole number from 0 to 1024"),
        ("demo = 1", "true or false"),
        ("demo = \"true\"", "true or false"),
        ("limits.connections.slow_policy = \"Skip\"", "disconnect or skip"),
        ("allowed_hosts = [\"hub:80\"]", "host names without a port, such as hub.example.org"),
    ] {
        let directory = Directory::new().file("visnyk.toml", line);
        let expected = format!("{line} (visnyk.toml:1) is refused: allowed is {allowed}");
        assert_eq!(directory.refusal(directory.sources()), [expected]);
    }
}

#[test]
fn numbers_are_held_to_their_bounds() {
    for (key, min, max) in [
        ("shards", 0, 1_024),
        ("limits.publish.channel_share_percent", 1, 100),
        ("limits.connections.heartbeat_s", 1, 86_400),
        ("limits.connections.subscriptions_max", 1, 2_000),
        ("limits.channels.forgotten_max", 0, 4_294_967_295_i64),
    ] {
        for (value, is_good) in [(min - 1, false), (min, true), (max, true), (max + 1, false)] {
            let directory = Directory::new().file("visnyk.toml", &format!("{key} = {value}"));
            let result = Settings::load(&directory.sources());
            assert_eq!(result.is_ok(), is_good, "{key} = {value}");
        }
    }
}

#[test]
fn rules_of_channels_are_read_from_files_and_variables() {
    let directory = Directory::new().file(
        "visnyk.toml",
        "[[channels.rules]]\npattern = \"prices/eur\"\nevents_max = 5\n\n\
         [[channels.rules]]\npattern = \"prices/**\"\nslow = \"skip\"\npublish_per_s = 7\n",
    );
    let effective = directory.load();
    let rules = &effective.settings().channels.rules;
    assert_eq!(rules.len(), 2);
    assert_eq!((rules[0].pattern.as_str(), rules[0].events_max), ("prices/eur", Some(5)));
    assert_eq!((rules[1].slow, rules[1].publish_per_s), (Some(SlowPolicy::Skip), Some(7)));
    let channel = |name| {
        let name = visnyk::model::ChannelName::parse(name).expect("a name");
        effective.channel(&name).replace(&directory.prefix(), "")
    };
    assert_eq!(
        channel("prices/usd"),
        "# prices/usd: rule 2 of channels.rules (visnyk.toml:1), which is for prices/**\n\
         events_max = 1000 # limits.history.events_max (default)\n\
         age_max_s = 3600 # limits.history.age_max_s (default)\n\
         bytes_max = 1048576 # limits.history.bytes_max (default)\n\
         slow = \"skip\" # rule 2\n\
         publish_per_s = 7 # rule 2\n\
         durable = false # no data_dir: history is in memory\n"
    );
    assert!(channel("prices/eur").contains("\nevents_max = 5 # rule 1\n"));
    assert!(channel("orders").starts_with("# orders: no rule of channels.rules is for it\n"));
    let variable = variable("VISNYK_CHANNELS__RULES", "[{ pattern = \"a\", bytes_max = 9 }]");
    let settings = Settings::load(&directory.sources().environment([variable])).expect("good");
    let rules = &settings.settings().channels.rules;
    assert_eq!((rules.len(), rules[0].bytes_max), (1, Some(9)), "a list replaces the one below");
}

#[test]
fn bad_rules_of_channels_are_refused_with_their_place_and_what_is_allowed() {
    for (rule, reason) in [
        (
            "pattern = \"a\"\nevents = 5",
            "events = 5 is unknown, and a rule has pattern, events_max, ",
        ),
        ("events_max = 5", "it has no pattern, which names its channels"),
        ("pattern = \"a/b*\"", "pattern = \"a/b*\", and allowed is a channel name or a pattern, "),
        (
            "pattern = \"a\"\nevents_max = 0",
            "events_max = 0, and allowed is a whole number from 1 to 4294967295",
        ),
        ("pattern = \"a\"\nslow = \"skp\"", "slow = \"skp\", and allowed is disconnect or skip"),
        (
            "pattern = \"a\"\nage_max_s = \"1h\"",
            "age_max_s = \"1h\", and allowed is a whole number",
        ),
    ] {
        let good = "[[channels.rules]]\npattern = \"**\"\n";
        let text = format!("{good}[[channels.rules]]\n{rule}\n");
        let directory = Directory::new().file("visnyk.toml", &text);
        let refusal = directory.refusal(directory.sources());
        let expected = format!("rule 2 of channels.rules (visnyk.toml:3) is refused: {reason}");
        assert!(refusal.len() == 1 && refusal[0].starts_with(&expected), "{refusal:?}");
    }
    let directory = Directory::new();
    for (text, refused) in [
        (
            "[1]",
            "rule 1 of channels.rules (environment VISNYK_CHANNELS__RULES) is refused: 1 is not a ",
        ),
        (
            "a/**",
            "channels.rules = \"a/**\" (environment VISNYK_CHANNELS__RULES) is refused: allowed is an array",
        ),
    ] {
        let sources = directory.sources().environment([variable("VISNYK_CHANNELS__RULES", text)]);
        let refusal = directory.refusal(sources).join(" ");
        assert!(refusal.starts_with(refused), "{refusal:?}");
    }
    // More than the one value.
    let more = variable("VISNYK_CHANNELS__RULES", "[]\nlisten = 3");
    assert!(Settings::load(&directory.sources().environment([more])).is_err());
    let directory = Directory::new().file(
        "visnyk.toml",
        "limits.channels.rules_max = 1\nlimits.history.total_bytes_max = 2000000\n[[channels.rules]]\n\
         pattern = \"a\"\n[[channels.rules]]\npattern = \"b\"\nbytes_max = 2000001\n",
    );
    let refusal = directory.refusal(directory.sources());
    assert!(
        refusal[0].starts_with("channels.rules (visnyk.toml:3) has 2 rules, and limits."),
        "{refusal:?}"
    );
    assert!(
        refusal[1]
            .starts_with("bytes_max = 2000001 of rule 2 of channels.rules (visnyk.toml:3) is more"),
        "{refusal:?}"
    );
}

#[test]
fn malformed_files_are_reported_with_line_and_column() {
    let directory = Directory::new().file("visnyk.toml", "shards = 1\ndemo = maybe\n");
    let refusal = directory.refusal(directory.sources());
    assert_eq!(refusal.len(), 1);
    assert!(refusal[0].starts_with("visnyk.toml:2:8 is not TOML: "), "{refusal:?}");
    let directory = Directory::new().file("visnyk.toml", "shards = 1\nshards = 2\n");
    let refusal = directory.refusal(directory.sources());
    assert!(refusal[0].starts_with("visnyk.toml:2:1 is not TOML: "), "{refusal:?}");
}

#[test]
fn files_that_are_not_text_or_far_too_long_are_refused() {
    let directory = Directory::new();
    fs::write(directory.path().join("visnyk.toml"), b"demo = true\n# \xff\n").expect("written");
    assert_eq!(directory.refusal(directory.sources()), ["visnyk.toml:2:3 is not TOML: not UTF-8"]);
    let directory = Directory::new().file("visnyk.toml", &"#\n".repeat(600_000));
    assert_eq!(
        directory.refusal(directory.sources()),
        ["visnyk.toml is longer than 1048576 bytes, which no settings file needs"]
    );
}

#[cfg(unix)]
#[test]
fn variables_that_are_not_text_are_refused() {
    use std::os::unix::ffi::OsStringExt;

    let directory = Directory::new();
    let value = OsString::from_vec(vec![0xff]);
    let sources = directory.sources().environment([("VISNYK_LISTEN".into(), value)]);
    assert_eq!(
        directory.refusal(sources),
        ["environment VISNYK_LISTEN is refused: its value is not UTF-8"]
    );
}

#[test]
fn what_later_versions_take_is_refused_without_showing_its_value() {
    let directory = Directory::new().file("visnyk.toml", "mercure.x = \"hunter2\"\n");
    let sources = directory.sources().environment([variable("VISNYK_JTW_SECRET", "hunter2")]).flag(
        "--mercure",
        "mercure",
        "",
    );
    assert_eq!(
        directory.refusal(sources),
        [
            "mercure.x (visnyk.toml:1) is not available in this version: it does not speak the Mercure \
         protocol; remove it",
            "unknown setting jtw_secret = (not shown) (environment VISNYK_JTW_SECRET): \
         did you mean jwt_secret?",
            "mercure (flag --mercure) is not available in this version: \
         it does not speak the Mercure protocol; remove it",
        ]
    );
}

#[test]
fn a_backend_is_an_address_and_a_bad_one_is_never_shown() {
    let refused = |source: &str, from: &str| {
        let directory = Directory::new().file("visnyk.toml", source);
        let refusal = directory.refusal(directory.sources());
        assert_eq!(refusal.len(), 1, "{refusal:?}");
        let begin = format!("{from} = (not shown) (visnyk.toml:1) is refused: allowed is memory: ");
        assert!(refusal[0].starts_with(&begin), "{refusal:?}");
        assert!(refusal[0].contains("nats:// is not available in this version"), "{refusal:?}");
    };
    for url in [
        "redis://user:hunter2@host",
        "nats://host",
        "memory",
        "redis://",
        "http://host",
        "redis+cluster://a/1",
    ] {
        refused(&format!("backend = \"{url}\"\n"), "backend.url");
        refused(&format!("backend.url = \"{url}\"\n"), "backend.url");
    }
    let directory = Directory::new().file("visnyk.toml", "backend = \"redis://host\"\n");
    let loaded = Settings::load(&directory.sources()).expect("an address");
    assert_eq!(loaded.settings().backend.url, "redis://host");
    let memory = directory.sources().flag("--backend", "backend.url", "memory:");
    assert_eq!(Settings::load(&memory).expect("good").settings().backend.url, "");
    let both = directory.sources().flag("--data-dir", "data_dir", "d");
    assert_eq!(
        directory.refusal(both),
        [
            "backend.url (visnyk.toml:1) and data_dir (flag --data-dir) are both set, and the log is kept in \
          only one of them; remove one"
        ]
    );
    let edge = Directory::new().file("visnyk.toml", "role = \"edge\"\n");
    assert_eq!(
        edge.refusal(edge.sources()),
        [
            "role = edge (visnyk.toml:1) needs a shared log: without backend.url no other hub can take the other role; \
          set backend.url, or remove it"
        ]
    );
    let directory = Directory::new().file(
        "visnyk.toml",
        "[backend]\nuser = \"u\"\nca_file = \"ca.pem\"\nnamespace = \"{x}\"\n",
    );
    assert_eq!(
        directory.refusal(directory.sources()),
        [
            "backend.namespace = \"{x}\" (visnyk.toml:4) is refused: allowed is 1 to 64 letters, digits, and \
          `-`, `_`, `.`, `:`"
        ]
    );
    let without = directory.sources().flag("-", "backend.namespace", "x");
    assert_eq!(directory.refusal(without).len(), 1, "the file is refused all the same");
}

#[test]
fn addresses_beyond_loopback_need_consent() {
    let directory = Directory::new();
    let open = |address| directory.sources().flag("--listen", "listen", address);
    assert_eq!(
        directory.refusal(open("0.0.0.0:3000")),
        ["listen = 0.0.0.0:3000 (flag --listen) reaches beyond this machine, and nothing \
         authenticates clients: every client that reaches it may publish, read and delete; \
         set VISNYK_JWT_SECRET or another key, listen on 127.0.0.1 or [::1], or accept that with \
         --insecure (insecure = true)"]
    );
    assert_eq!(directory.refusal(open("127.0.0.1:1,[::]:1,192.0.2.1:1")).len(), 2);
    assert!(Settings::load(&open("127.0.0.1:1,[::1]:1,127.9.9.9:1")).is_ok());
    let consented = open("[::]:1").flag("--insecure", "insecure", "true");
    assert!(Settings::load(&consented).expect("good").settings().insecure);
}

#[test]
fn an_address_is_listened_on_once() {
    let directory = Directory::new();
    let listen = |text| directory.sources().flag("--listen", "listen", text);
    assert_eq!(
        directory.refusal(listen("127.0.0.1:1,localhost:1")),
        [
            "listen = 127.0.0.1:1 (flag --listen) is given twice, and an address can be bound only once; \
         remove one"
        ]
    );
    assert!(Settings::load(&listen("127.0.0.1:0,127.0.0.1:0")).is_ok());
}

#[test]
fn contradictions_name_both_sides_and_a_remedy() {
    let directory = Directory::new().file(
        "visnyk.toml",
        "limits.connections.retry_min_ms = 5000\n\
         limits.poll.timeout_s = 61\n\
         limits.poll.limit_max = 99\n\
         limits.history.total_bytes_max = 1000\n",
    );
    assert_eq!(
        directory.refusal(directory.sources()),
        [
            "limits.connections.retry_min_ms = 5000 (visnyk.toml:1) is more than \
         limits.connections.retry_max_ms = 4000 (default): \
         reconnection times are spread between the two; lower the first or raise the second",
            "limits.poll.timeout_s = 61 (visnyk.toml:2) is more than \
         limits.poll.timeout_max_s = 60 (default): \
         a poll without `timeout` would wait longer than any poll may; \
         lower the first or raise the second",
            "limits.poll.limit = 100 (default) is more than limits.poll.limit_max = 99 (visnyk.toml:3): \
         a poll without `limit` would be given more events than any poll may ask for; \
         lower the first or raise the second",
            "limits.history.bytes_max = 1048576 (default) is more than \
         limits.history.total_bytes_max = 1000 (visnyk.toml:4): \
         one channel could keep more than all channels together; \
         lower the first or raise the second",
        ]
    );
}

#[test]
fn each_pair_that_has_an_order_is_held_to_it_and_may_be_equal() {
    for (low, high, at, reason) in [
        (
            "auth.jwks_refresh_min_s",
            "auth.jwks_refresh_s",
            60,
            "tokens with unknown keys would cause a refresh less often than the clock does",
        ),
        (
            "limits.connections.retry_min_ms",
            "limits.connections.retry_max_ms",
            4_000,
            "reconnection times are spread between the two",
        ),
        (
            "limits.poll.timeout_s",
            "limits.poll.timeout_max_s",
            60,
            "a poll without `timeout` would wait longer than any poll may",
        ),
        (
            "limits.poll.limit",
            "limits.poll.limit_max",
            1_000,
            "a poll without `limit` would be given more events than any poll may ask for",
        ),
        (
            "limits.publish.body_bytes_max",
            "limits.publish.bodies_bytes_max",
            2_000_000,
            "one body could take more memory than all bodies together",
        ),
        (
            "limits.http2.window_bytes",
            "limits.http2.connection_window_bytes",
            100_000,
            "one body could take more memory than all bodies of its connection together",
        ),
        (
            "limits.requests.target_bytes_max",
            "limits.requests.head_bytes_max",
            10_000,
            "a target could be longer than the whole head",
        ),
        (
            "auth.token_bytes_max",
            "limits.requests.target_bytes_max",
            5_000,
            "a token in the query would be longer than the whole target may be",
        ),
        (
            "limits.history.bytes_max",
            "limits.history.total_bytes_max",
            1_000_000,
            "one channel could keep more than all channels together",
        ),
    ] {
        let set = |low_value: u64| {
            let text = format!("{low} = {low_value}\n{high} = {at}\n");
            Directory::new().file("visnyk.toml", &text)
        };
        set(at).load();
        let directory = set(at + 1);
        assert_eq!(
            directory.refusal(directory.sources()),
            [format!(
                "{low} = {} (visnyk.toml:1) is more than {high} = {at} (visnyk.toml:2): {reason}; \
                 lower the first or raise the second",
                at + 1
            )]
        );
    }
}

#[test]
fn half_a_pair_for_tls_names_the_other_half() {
    let directory = Directory::new();
    for (has, lacks) in [("tls_cert", "tls_key"), ("tls_key", "tls_cert")] {
        assert_eq!(
            directory.refusal(directory.sources().flag("--tls", has, "file.pem")),
            [format!(
                "{has} (flag --tls) encrypts nothing without {lacks}; \
                 name the other file in {lacks}, or remove it"
            )]
        );
    }
}

#[test]
fn the_printed_settings_are_a_file_that_gives_them_back() {
    let directory = Directory::new().file(
        "visnyk.toml",
        "listen = [\"127.0.0.1:0\"]\nallowed_hosts = \"hub.example.org\"\nquickstart = false\n\
         [log]\nlevel = \"info,visnyk=debug\"\n[limits.connections]\nslow_policy = \"skip\"\n",
    );
    let effective = directory.load();
    assert_eq!(effective.settings().limits.connections.slow_policy, SlowPolicy::Skip);
    assert_eq!(effective.settings().allowed_hosts, ["hub.example.org"]);
    let again = Directory::new().file("visnyk.toml", &effective.to_toml());
    assert_eq!(again.load().settings(), effective.settings());
    assert!(effective.to_toml().contains("slow_policy = \"skip\" # "));
}

#[test]
fn refusals_can_be_told_apart_by_kind() {
    let directory = Directory::new().file("visnyk.toml", "shards = -1\ncolour = 1\n");
    let errors = Settings::load(&directory.sources()).expect_err("a refusal");
    let kinds: Vec<_> = errors.iter().collect();
    assert!(
        matches!(
            kinds[..],
            [SettingsError::BadValue { key: "shards", .. }, SettingsError::UnknownKey { .. }]
        ),
        "{kinds:?}"
    );
}

/// A directory for settings files. Its path is cut out of messages.
struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn prefix(&self) -> String {
        format!("{}/", self.path().display())
    }

    fn file(self, name: &str, text: &str) -> Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("made");
        fs::write(path, text).expect("written");
        self
    }

    fn sources(&self) -> Sources {
        Sources::in_directory(self.path())
    }

    fn load(&self) -> Effective {
        Settings::load(&self.sources()).expect("good settings")
    }

    fn refusal(&self, sources: Sources) -> Vec<String> {
        let errors = Settings::load(&sources).expect_err("a refusal");
        errors.to_string().replace(&self.prefix(), "").lines().map(str::to_owned).collect()
    }
}

fn variable(name: &str, value: &str) -> (OsString, OsString) {
    (name.into(), value.into())
}
