//! Text from results made harmless: for markup, for tables in Markdown, for file names.
//!
//! The user of the tool chooses names in results. None of them may become markup or a path.

use std::fmt::Write as _;

/// For text and quoted attributes of HTML and SVG. Characters that XML cannot hold are replaced.
pub(crate) fn markup(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(' '),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => safe.push('\u{FFFD}'),
            c => safe.push(c),
        }
    }
    safe
}

/// For a cell of a table in Markdown, or a line of it.
pub(crate) fn markdown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '|' | '*' | '`' | '[' | ']' | '!' | '~' | '$' => {
                safe.push('\\');
                safe.push(c);
            }
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '\n' | '\t' => safe.push(' '),
            c if c.is_control() => safe.push('\u{FFFD}'),
            c => safe.push(c),
        }
    }
    safe
}

/// For a file's name, and for an id: small letters, digits and single hyphens; never empty.
pub(crate) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "unnamed".into() } else { slug.into() }
}

/// A name in results as words: `cpu_us` is "CPU us".
pub(crate) fn words(name: &str) -> String {
    let mut text = String::new();
    for word in name.split('_').filter(|word| !word.is_empty()) {
        let space = if text.is_empty() { "" } else { " " };
        let word = if word == "cpu" { "CPU" } else { word };
        let _ = write!(text, "{space}{word}");
    }
    text
}

/// With its first letter a capital.
pub(crate) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(chars).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Whether every element that is opened is closed, in order, but for those of HTML that never
    /// are.
    pub(crate) fn is_balanced(markup: &str) -> bool {
        let mut open: Vec<&str> = Vec::new();
        for tag in markup.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
            let slashes = tag.len() - tag.trim_start_matches('/').len();
            let word = tag[slashes..].split([' ', '\n', '/']).next().unwrap_or_default();
            match slashes {
                1 if open.pop() != Some(word) => return false,
                1 => {}
                _ if tag.ends_with('/') || matches!(word, "!doctype" | "meta" | "br") => {}
                _ => open.push(word),
            }
        }
        open.is_empty()
    }

    #[test]
    fn balance_is_noticed() {
        assert!(is_balanced("<!doctype html><p a=\"b\">x<br><b/></p>"));
        assert!(!is_balanced("<p><b></p></b>"));
        assert!(!is_balanced("<p>"));
    }

    #[test]
    fn markup_and_quotes_are_text() {
        let safe = markup("<script a=\"x\" b='y'>&\u{0}\u{1b}</script>");
        assert!(!safe.contains(['<', '>', '"', '\'', '\u{0}', '\u{1b}']), "{safe}");
        assert!(safe.starts_with("&lt;script"));
    }

    #[test]
    fn cell_stays_one_cell() {
        assert_eq!(markdown("a|b\nc<img>`"), "a\\|b c&lt;img&gt;\\`");
    }

    #[test]
    fn no_name_leaves_its_folder() {
        for (name, expected) in [
            ("../../etc/passwd", "etc-passwd"),
            ("Deliveries/s", "deliveries-s"),
            ("..", "unnamed"),
            ("", "unnamed"),
            ("їжак", "unnamed"),
        ] {
            assert_eq!(slug(name), expected);
        }
    }

    #[test]
    fn names_become_words() {
        assert_eq!(capitalised(&words("cpu_per_delivery")), "CPU per delivery");
        assert_eq!(capitalised(&words("many_channels")), "Many channels");
    }
}
