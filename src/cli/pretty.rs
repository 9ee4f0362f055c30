//! An event as people read it on a terminal.

use serde_json::Value;
use visnyk::client::Event;

use super::terminal::{Style, Terminal, harmless, width};

/// The time, the channel, the type and the data, on one line if it fits. JSON that does not fit has
/// a line for each member, and other text keeps its lines.
pub(crate) fn event(event: &Event, terminal: &Terminal) -> String {
    let time = event.time.split_once('T').map_or(&*event.time, |(_, time)| time);
    let (time, channel) = (harmless(time), harmless(&event.channel));
    let event_type = event.event_type.as_deref().filter(|name| *name != "message");
    let event_type = event_type.map(harmless);
    let mut used = width(&time) + GAP + width(&channel) + GAP;
    let mut head = format!(
        "{}  {}",
        terminal.styled(Style::Dim, &time),
        terminal.styled(Style::Cyan, &channel)
    );
    if let Some(event_type) = event_type {
        used += width(&event_type) + GAP;
        head += &format!("  {}", terminal.styled(Style::Yellow, &event_type));
    }
    let data = harmless(&event.data);
    let json: Option<Value> = serde_json::from_str(&event.data)
        .ok()
        .filter(|json: &Value| json.is_object() || json.is_array());
    let is_line = !data.contains('\n') && used + width(&data) <= terminal.columns;
    match json {
        _ if data.is_empty() => head + "\n",
        _ if is_line => format!("{head}  {data}\n"),
        Some(json) => {
            let lines = harmless(&format!("{json:#}"));
            let lines = lines.lines().map(|line| format!("  {}\n", styled_member(line, terminal)));
            format!("{head}\n{}", lines.collect::<String>())
        }
        // A terminal wraps a long line itself, where it can be copied whole.
        None => {
            let lines = data.lines().map(|line| format!("  {line}\n"));
            format!("{head}\n{}", lines.collect::<String>())
        }
    }
}

/// A line of JSON with the name of its member in bold.
fn styled_member(line: &str, terminal: &Terminal) -> String {
    let name = line.trim_start();
    let indent = &line[..line.len() - name.len()];
    // The name ends at the first quotation mark that is not escaped.
    let mut escaped = false;
    let end = name.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    match end {
        Some((at, _)) if name.starts_with('"') && name[at + 1..].starts_with(": ") => {
            let (name, value) = name.split_at(at + 1);
            format!("{indent}{}{value}", terminal.styled(Style::Bold, name))
        }
        _ => line.to_owned(),
    }
}

const GAP: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(event_type: &str, data: &str, columns: usize, has_styles: bool) -> String {
        let of = Event {
            id: "a-1".into(),
            channel: "prices".into(),
            event_type: Some(event_type.into()),
            time: "2026-01-02T03:04:05.678Z".into(),
            data: data.into(),
        };
        event(&of, &Terminal { columns, lines: 24, has_styles })
    }

    #[test]
    fn what_fits_is_one_line() {
        assert_eq!(shown("message", "hello", 80, false), "03:04:05.678Z  prices  hello\n");
        assert_eq!(shown("t", "{\"a\":1}", 80, false), "03:04:05.678Z  prices  t  {\"a\":1}\n");
        assert_eq!(shown("message", "", 80, false), "03:04:05.678Z  prices\n");
    }

    #[test]
    fn json_that_does_not_fit_has_a_line_for_each_member_in_its_order() {
        assert_eq!(
            shown("message", "{\"b\":1,\"a\":[true,\"x: y\"]}", 40, false),
            "03:04:05.678Z  prices\n  {\n    \"b\": 1,\n    \"a\": [\n      true,\n      \"x: y\"\n    ]\n  }\n"
        );
        let styled = shown("message", "{\"b\\\"c\":1}", 20, true);
        assert!(styled.contains("    \u{1b}[1m\"b\\\"c\"\u{1b}[0m: 1\n"), "{styled:?}");
    }

    #[test]
    fn data_cannot_move_the_cursor() {
        assert_eq!(
            shown("message", "a\u{1b}[2J\nb", 80, false),
            "03:04:05.678Z  prices\n  a\u{fffd}[2J\n  b\n"
        );
    }
}
