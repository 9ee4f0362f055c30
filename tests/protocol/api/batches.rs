//! NDJSON batches: accepted whole or not at all.

use super::{
    batch, data, retained,
    wire::{Wire, ask, exists, get, hub, metric, request},
};

#[tokio::test]
async fn a_batch_is_answered_with_its_first_and_last_id() {
    let hub = hub(&[]).await;
    let lines = "{\"data\":\"one\"}\n{\"data\":\"two\",\"type\":\"t\",\"retry\":7}\n{\"data\":3}";
    let answer = ask(&hub, batch("/v1/channels/a/events", lines)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let body = answer.json();
    assert_eq!(body.as_object().unwrap().len(), 3, "{body}");
    assert_eq!(body["accepted"], 3);
    let polled = ask(&hub, get("/v1/channels/a/poll?last_event_id=earliest")).await;
    assert_eq!(data(&polled), ["one", "two", "3"]);
    let events = polled.json()["events"].clone();
    assert_eq!((&events[0]["id"], &events[2]["id"]), (&body["first_id"], &body["last_id"]));
    assert_eq!(events[1]["type"], "t");
}

#[tokio::test]
async fn a_string_is_the_data_and_other_json_its_compact_text() {
    let hub = hub(&[]).await;
    let lines = [
        (r#"{"data":"a\r\nb"}"#, "a\nb"),
        (r#"{"data":""}"#, ""),
        (
            r#"{"data": {"z": 1.0, "a": [ true , null ], "s": " x " } }"#,
            r#"{"z":1.0,"a":[true,null],"s":" x "}"#,
        ),
        (r#"{"data":12345678901234567890.10}"#, "12345678901234567890.10"),
        (r#"{"data":null}"#, "null"),
        (r#"{"data":false}"#, "false"),
        (r#"{"data":"\u0456"}"#, "і"),
        (r#"{"type":null,"retry":null,"data":1,"channel":null}"#, "1"),
    ];
    // As some editors and shells write it, with a byte order mark.
    let body: String = lines.iter().map(|(line, _)| format!("{line}\r\n")).collect();
    let body = format!("\u{feff}{body}");
    let answer = ask(&hub, batch("/v1/channels/a/events", &body)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let polled = ask(&hub, get("/v1/channels/a/poll?last_event_id=earliest")).await;
    assert_eq!(data(&polled), lines.map(|(_, data)| data.to_owned()));
}

#[tokio::test]
async fn a_batch_across_channels_is_in_one_order() {
    let hub = hub(&[]).await;
    let lines = "{\"data\":1,\"channel\":\"a\"}\n{\"data\":2,\"channel\":\"b/c\"}\n\
                 {\"data\":3,\"channel\":\"a\"}\n";
    assert_eq!(ask(&hub, batch("/v1/events", lines)).await.json()["accepted"], 3);
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(channel, data)| (channel.to_string(), data.to_string())).collect()
    };
    assert_eq!(retained(&hub, "**").await, pairs(&[("a", "1"), ("b/c", "2"), ("a", "3")]));
    // The channel of the query stands in for those that name none.
    let lines = "{\"data\":4}\n{\"data\":5,\"channel\":\"a\"}\n";
    assert_eq!(ask(&hub, batch("/v1/events?channel=d", lines)).await.status, 201);
    assert_eq!(retained(&hub, "d").await, pairs(&[("d", "4")]));
    assert_eq!(retained(&hub, "a").await.len(), 3);
}

#[tokio::test]
async fn the_media_type_may_have_parameters_and_capitals() {
    let hub = hub(&[]).await;
    for media_type in ["application/x-ndjson; charset=utf-8", "Application/X-NDJSON ;x"] {
        let fields = [("Content-Type", media_type)];
        let lines = "{\"data\":1}\n\n  \n{\"data\":2}\n";
        let answer = ask(&hub, request("POST", "/v1/channels/a/events", &fields, lines)).await;
        assert_eq!(answer.json()["accepted"], 2, "{media_type}");
    }
}

/// The head of a batch that comes in chunks.
const CHUNKED: &str = "POST /v1/channels/a/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\
                       Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

#[tokio::test]
async fn two_media_types_of_which_one_is_a_batchs_are_refused() {
    let hub = hub(&[]).await;
    let ask_with = async |media_types: [&str; 2]| {
        let fields = media_types.map(|media_type| ("Content-Type", media_type));
        ask(&hub, request("POST", "/v1/channels/a/events", &fields, "{\"data\":1}\n")).await
    };
    for media_types in
        [["text/plain", "application/x-ndjson"], ["application/x-ndjson;a=b", "text/plain"]]
    {
        ask_with(media_types).await.refuses(400, "Content-Type");
        // As a proxy may join them.
        let fields = [("Content-Type", media_types.join(", "))];
        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        let joined = request("POST", "/v1/channels/a/events", &fields, "{\"data\":1}\n");
        ask(&hub, joined).await.refuses(400, "Content-Type");
    }
    for media_types in [["text/plain", "text/html"], ["", "application/x-ndjson"]] {
        assert_eq!(ask_with(media_types).await.status, 201, "{media_types:?}");
    }
    let polled = ask(&hub, get("/v1/channels/a/poll?last_event_id=earliest")).await;
    assert_eq!(data(&polled), ["{\"data\":1}\n", "1"]);
}

#[tokio::test]
async fn a_batch_may_come_in_small_chunks() {
    let hub = hub(&[("limits.history.events_max", "20000")]).await;
    let most = 10_000;
    let lines: Vec<String> = (0..most).map(|n| format!("{{\"data\":{n}}}")).collect();
    let whole = |end: &str| lines.iter().map(|line| format!("{line}{end}")).collect::<String>();
    let by_line = |end: &str| lines.iter().map(|line| chunk(&format!("{line}{end}"))).collect();
    // A line and its end by themselves, and the line in two.
    let in_three: String = lines.iter().fold(String::new(), |all, line| {
        all + &chunk(&line[..4]) + &chunk(&line[4..]) + &chunk("\r\n")
    });
    // Cut anywhere.
    let text = whole("\n\r\n \n").trim_end().to_owned();
    let mut anywhere = String::new();
    let mut rest = &*text;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(fastrand::usize(1..16).min(rest.len()));
        anywhere += &chunk(piece);
        rest = more;
    }
    let chunked: [String; 4] = [by_line("\n"), by_line("\r\n\n"), in_three, anywhere];
    for (nth, chunks) in chunked.iter().enumerate() {
        let mut wire = Wire::to(&hub).await;
        wire.send(format!("{CHUNKED}{chunks}0\r\n\r\n")).await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, &answer.json()["accepted"]), (201, &most.into()), "{nth}");
        let last = answer.json()["last_id"].as_str().unwrap().to_owned();
        let answer = ask(&hub, get("/v1/channels/a/poll?last=1")).await;
        assert_eq!((data(&answer), answer.field("last-event-id")), (vec!["9999".into()], &*last));
    }
    // Each in a packet of its own, with pauses, and the last line without an end.
    let mut wire = Wire::to(&hub).await;
    wire.send(CHUNKED).await;
    for piece in ["{\"da", "ta\":\"\u{456}", "\u{434}\"}", "\r", "\n", "\n{\"data\":", "2}"] {
        wire.send(chunk(piece)).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    wire.send("0\r\n\r\n").await;
    assert_eq!(wire.answer().await.json()["accepted"], 2);
    let answer = ask(&hub, get("/v1/channels/a/poll?last=2")).await;
    assert_eq!(data(&answer), ["\u{456}\u{434}", "2"]);
}

#[tokio::test]
async fn a_batch_in_far_more_chunks_than_lines_is_refused() {
    let hub = hub(&[]).await;
    let line = format!("{{\"data\":\"{}\"}}\n", "x".repeat(2_000));
    let bytes: String = line.chars().map(|byte| chunk(&byte.to_string())).collect();
    let mut wire = Wire::to(&hub).await;
    let _ = wire.try_send(format!("{CHUNKED}{bytes}0\r\n\r\n")).await;
    wire.answer().await.refuses(400, "body");
    let refused = "visnyk_requests_refused_total{reason=\"too_many_pieces\"}";
    assert_eq!(metric(&hub, refused).await, 1);
    // Empty lines are lines too, up to as many as a batch may have events.
    let empty = chunk("\n").repeat(60_000);
    let mut wire = Wire::to(&hub).await;
    let _ = wire.try_send(format!("{CHUNKED}{empty}0\r\n\r\n")).await;
    wire.answer().await.refuses(400, "body");
    assert_eq!(metric(&hub, refused).await, 2);
}

#[tokio::test]
async fn a_bad_line_refuses_the_whole_batch_by_its_number() {
    let hub = hub(&[]).await;
    let good = r#"{"data":"good","channel":"good"}"#;
    for (line, field) in [
        ("", "body"),
        ("not JSON", "body"),
        ("[]", "body"),
        // The members in their order, but not by their names.
        (r#"["x","t",5,"c"]"#, "body"),
        ("{\"data\":1", "body"),
        ("{\"data\":1} {\"data\":2}", "body"),
        (r#"{"data":1,"channel":"c","extra":1}"#, "body"),
        (r#"{"data":1,"data":2,"channel":"c"}"#, "body"),
        (r#"{"channel":"c"}"#, "data"),
        (r#"{"data":"\ud800","channel":"c"}"#, "data"),
        (r#"{"data":1}"#, "channel"),
        (r#"{"data":1,"channel":7}"#, "channel"),
        (r#"{"data":1,"channel":""}"#, "channel"),
        (r#"{"data":1,"channel":"a//b"}"#, "channel"),
        (r#"{"data":1,"channel":"a/*"}"#, "channel"),
        (r#"{"data":1,"channel":"c","type":"visnyk.x"}"#, "type"),
        (r#"{"data":1,"channel":"c","type":""}"#, "type"),
        (r#"{"data":1,"channel":"c","type":"a\nb"}"#, "type"),
        (r#"{"data":1,"channel":"c","type":1}"#, "type"),
        (r#"{"data":1,"channel":"c","retry":-1}"#, "retry"),
        (r#"{"data":1,"channel":"c","retry":1.5}"#, "retry"),
        (r#"{"data":1,"channel":"c","retry":"1"}"#, "retry"),
        (r#"{"data":1,"channel":"c","retry":4294967296}"#, "retry"),
    ] {
        if line.is_empty() {
            continue;
        }
        // An empty line counts, as an editor counts it.
        let lines = format!("{good}\n\n{good}\n{line}\n{good}\n");
        let problem = ask(&hub, batch("/v1/events", &lines)).await.refuses(400, field);
        assert_eq!(problem["line"], 4, "{line}: {problem}");
        assert!(!problem["detail"].as_str().unwrap().contains(" at line "), "{problem}");
    }
    assert!(!exists(&hub, "good").await, "a part of a refused batch was published");
    assert!(!exists(&hub, "c").await);
}

#[tokio::test]
async fn a_batch_is_refused_for_what_belongs_to_its_lines() {
    let hub = hub(&[]).await;
    let line = "{\"data\":1}\n";
    for (target, lines, field) in [
        ("/v1/channels/a/events?type=t", line, "type"),
        ("/v1/channels/a/events?retry=1", line, "retry"),
        ("/v1/channels/a/events?channel=b", line, "channel"),
        ("/v1/channels/a/events", "", "body"),
        ("/v1/channels/a/events", "\n \n", "body"),
        ("/v1/channels/a/events", "{\"data\":1,\"channel\":\"a\"}\n", "channel"),
    ] {
        ask(&hub, batch(target, lines)).await.refuses(400, field);
    }
    assert!(!exists(&hub, "a").await);
}

#[tokio::test]
async fn a_batch_with_one_closed_channel_is_refused_as_a_whole() {
    let hub = hub(&[]).await;
    let lines = "{\"data\":1,\"channel\":\"open\"}\n{\"data\":2,\"channel\":\"shut\"}\n";
    assert_eq!(ask(&hub, batch("/v1/events", lines)).await.status, 201);
    assert_eq!(ask(&hub, request("DELETE", "/v1/channels/shut", &[], "")).await.status, 204);
    let answer = ask(&hub, batch("/v1/events", lines)).await;
    assert_eq!(answer.status, 410);
    assert_eq!(answer.problem()["channel"], "shut");
    assert_eq!(retained(&hub, "open").await.len(), 1);
}
