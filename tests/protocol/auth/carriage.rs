//! Where a token may be carried, and where it leaves no trace.

use visnyk_loadtest::Hub;

use super::{
    ask_with, bearer, hub,
    tokens::grant,
    wire::{Wire, ask, get, request},
};

const POLL: &str = "/v1/channels/a/poll?timeout=0";

#[tokio::test]
async fn the_query_carries_a_token_to_streams_and_polls_only() {
    let hub = hub(&[]).await;
    let ann = grant("ann", &["**"], &["**"]);
    for (method, target, status) in [
        ("GET", format!("{POLL}&token={ann}"), 204),
        ("GET", format!("/v1/poll?token={ann}&channel=a&timeout=0"), 204),
        ("GET", format!("/v1/channels?token={ann}"), 401),
        ("GET", format!("/v1/channels/a?token={ann}"), 401),
        ("POST", format!("/v1/channels/a/events?token={ann}"), 401),
        ("POST", format!("/v1/events?channel=a&token={ann}"), 401),
        ("POST", format!("/publish?token={ann}"), 401),
        ("DELETE", format!("/v1/channels/a?token={ann}"), 401),
        ("GET", format!("{POLL}&token="), 401),
    ] {
        let answer = ask(&hub, request(method, &target, &[], "")).await;
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
    }
    for target in [format!("/v1/events?channel=a&token={ann}"), format!("/events?token={ann}")] {
        let mut stream = Wire::to(&hub).await;
        stream.send(get(&target)).await;
        stream.stream_head().await;
    }
}

#[tokio::test]
async fn the_query_can_be_ruled_out() {
    let hub = hub(&[("auth.query_token", "false")]).await;
    let ann = grant("ann", &["**"], &[]);
    assert_eq!(ask(&hub, get(&format!("{POLL}&token={ann}"))).await.status, 401);
    assert_eq!(ask_with(&hub, &ann, "GET", POLL, "").await.status, 204);
}

#[tokio::test]
async fn credentials_that_disagree_are_refused() {
    let hub = hub(&[("auth.cookie", "s"), ("auth.cookie_origins", "https://app.example")]).await;
    let (ann, bob) = (grant("ann", &["**"], &[]), grant("bob", &["**"], &[]));
    let (header, cookie) = (bearer(&ann), format!("s={bob}"));
    let authorization = ("Authorization", &*header);
    for (target, fields) in [
        (format!("{POLL}&token={bob}"), vec![authorization]),
        (POLL.to_owned(), vec![authorization, ("Cookie", &cookie)]),
        (format!("{POLL}&token={ann}"), vec![("Cookie", &cookie)]),
        (POLL.to_owned(), vec![authorization, authorization]),
        (format!("{POLL}&token={ann}&token={bob}"), vec![]),
    ] {
        let answer = ask(&hub, request("GET", &target, &fields, "")).await;
        assert_eq!(answer.status, 400, "{target} {fields:?}: {answer:?}");
    }
    let same = request("GET", &format!("{POLL}&token={ann}"), &[authorization], "");
    assert_eq!(ask(&hub, same).await.status, 204);
}

/// What a page sends that takes an error for a token, or a template of a token for a channel.
#[tokio::test]
async fn a_refusal_says_what_was_taken_for_a_token_or_a_channel() {
    let hub = hub(&[]).await;
    let text = [("Authorization", "Bearer log in first")];
    let answer = ask(&hub, request("GET", POLL, &text, "")).await;
    let says = String::from_utf8_lossy(&answer.body);
    assert!(answer.status == 400 && says.contains("text of an error"), "{answer:?}");
    let ann = grant("ann", &["users/{sub}/**"], &[]);
    let template =
        "/v1/poll?channel=users/{sub}/**&timeout=0".replace('{', "%7B").replace('}', "%7D");
    let answer = ask_with(&hub, &ann, "GET", &template, "").await;
    let says = String::from_utf8_lossy(&answer.body);
    assert!(answer.status == 403 && says.contains("in tokens alone"), "{answer:?}");
}

#[tokio::test]
async fn credentials_of_another_scheme_are_passed_over() {
    let cookies = [("auth.cookie", "session"), ("auth.cookie_origins", "https://app.example")];
    let hub = hub(&[cookies[0], cookies[1], ("allow_anonymous", "news")]).await;
    let basic = ("Authorization", "Basic YTpi");
    let ann = grant("ann", &["**"], &[]);
    let (bearer, cookie) = (bearer(&ann), format!("session={ann}"));
    let news = "/v1/channels/news/poll?timeout=0";
    for (target, also, status) in [
        (POLL.to_owned(), None, 401),
        (news.to_owned(), None, 204),
        (format!("{POLL}&token={ann}"), None, 204),
        (POLL.to_owned(), Some(("Cookie", &*cookie)), 204),
        (POLL.to_owned(), Some(("Authorization", &*bearer)), 204),
    ] {
        let fields: Vec<_> = [basic].into_iter().chain(also).collect();
        let answer = ask(&hub, request("GET", &target, &fields, "")).await;
        assert_eq!(answer.status, status, "{target} {also:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_cookie_changes_things_only_for_own_and_listed_pages() {
    let settings = [("auth.cookie", "session"), ("auth.cookie_origins", "https://app.example")];
    let hub = hub(&settings).await;
    let ann = grant("ann", &["**"], &["**"]);
    let cookie = format!("theme=dark; session={ann}");
    let post = async |target: &str, fields: &[(&str, &str)]| {
        let mut all = vec![("Cookie", &*cookie)];
        all.extend(fields);
        ask(&hub, request("POST", target, &all, "{\"message\":\"x\"}")).await.status
    };
    for target in ["/v1/channels/default/events", "/publish"] {
        let done = if target == "/publish" { 200 } else { 201 };
        for (field, value, status) in [
            ("Origin", "https://app.example", done),
            ("Origin", "http://localhost", done),
            ("Origin", "http://app.example", 403),
            ("Origin", "https://app.example.evil.example", 403),
            ("Origin", "https://evil.example", 403),
            ("Origin", "null", 403),
            ("Origin", "", 403),
            ("Referer", "https://app.example/page?x=y", done),
            ("Referer", "http://localhost/console", done),
            ("Referer", "https://evil.example/https://app.example", 403),
            ("Referer", "nonsense", 403),
            ("X-Nothing", "x", 403),
        ] {
            assert_eq!(post(target, &[(field, value)]).await, status, "{target} {field}: {value}");
        }
    }
    // With a token that no browser adds by itself, the page does not matter to the gate.
    let authorization = bearer(&ann);
    let own = [("Authorization", &*authorization)];
    assert_eq!(post("/publish", &own).await, 200);
    // Reading is up to CORS, which lets no other page read the answer.
    let read = request("GET", POLL, &[("Cookie", &cookie), ("Origin", "https://e.example")], "");
    let answer = ask(&hub, read).await;
    assert!(matches!(answer.status, 200 | 204), "{answer:?}");
    assert!(!answer.has("access-control-allow-credentials"), "{answer:?}");
}

#[tokio::test]
async fn a_cookie_counts_only_when_it_is_named() {
    let hub = hub(&[]).await;
    let cookie = format!("session={}", grant("ann", &["**"], &[]));
    let answer = ask(&hub, request("GET", POLL, &[("Cookie", &cookie)], "")).await;
    assert_eq!(answer.status, 401, "{answer:?}");
}

#[tokio::test]
async fn a_listed_page_with_the_cookie_is_its_visitor() {
    let cookie = format!("session={}", grant("ann", &["**"], &["**"]));
    let ask_from = async |hub: &Hub, method: &str, origin: &str| {
        let fields = [("Origin", origin), ("Cookie", &*cookie), ("Sec-Fetch-Site", "cross-site")];
        let target = if method == "GET" { POLL } else { "/v1/channels/b/events" };
        ask(hub, request(method, target, &fields, "")).await
    };
    let (app, own) = ("https://app.example", "https://own.example");
    let (named, origins) = (("auth.cookie", "session"), ("cors_origins", app));
    let sharing = hub(&[named, origins, ("cors.credentials", "true")]).await;
    for (method, done) in [("GET", 204), ("POST", 201)] {
        let answer = ask_from(&sharing, method, app).await;
        assert_eq!(answer.status, done, "{answer:?}");
        assert_eq!(answer.field("access-control-allow-credentials"), "true");
        assert_eq!(answer.field("access-control-allow-origin"), app);
        for other in [own, "null"] {
            assert_eq!(ask_from(&sharing, method, other).await.status, 403, "{method} {other}");
        }
    }
    // Without credentials, being listed is not enough.
    let split = hub(&[named, origins, ("auth.cookie_origins", own)]).await;
    for (method, done) in [("GET", 204), ("POST", 201)] {
        let answer = ask_from(&split, method, app).await;
        answer.refuses(403, "Origin");
        assert_eq!(answer.field("access-control-allow-origin"), app);
        // And an origin that may publish with the cookie may not read.
        let answer = ask_from(&split, method, own).await;
        assert_eq!(answer.status, done, "{answer:?}");
        assert!(!answer.has("access-control-allow-origin"), "{answer:?}");
    }
}
