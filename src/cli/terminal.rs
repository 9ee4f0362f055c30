//! The terminal that a command prints to, if it prints to one.

use std::io::{self, IsTerminal};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The size of a terminal, and whether it shows styles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// Columns; 80 if the terminal does not report them.
    pub(crate) columns: usize,
    /// Lines; 24 if the terminal does not report them.
    pub(crate) lines: usize,
    /// Whether to use colours and other styles: not with `NO_COLOR`, nor on a `dumb` terminal.
    pub(crate) has_styles: bool,
}

/// A style of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Terminal {
    /// A terminal without styles, for output to a file.
    pub(crate) const PLAIN: Self = Self { columns: 80, lines: 24, has_styles: false };

    /// The terminal on stdout; `None` if that is a file or a pipe.
    pub(crate) fn of_stdout() -> Option<Self> {
        let stdout = io::stdout();
        if !stdout.is_terminal() {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(&stdout).ok();
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let or = |given: Option<u16>, default: usize| {
            given.filter(|given| *given > 0).map_or(default, usize::from)
        };
        Some(Self {
            columns: or(size.map(|size| size.ws_col), 80),
            lines: or(size.map(|size| size.ws_row), 24),
            has_styles: !is_set("NO_COLOR") && !is_dumb,
        })
    }

    /// Text in a style, if styles are wanted.
    pub(crate) fn styled(&self, style: Style, text: &str) -> String {
        if !self.has_styles || text.is_empty() {
            return text.to_owned();
        }
        let code = match style {
            Style::Bold => 1,
            Style::Dim => 2,
            Style::Red => 31,
            Style::Green => 32,
            Style::Yellow => 33,
            Style::Cyan => 36,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Text of clients without control characters, which a terminal would interpret; line feeds stay.
pub(crate) fn harmless(text: &str) -> String {
    let replace = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    text.replace('\t', "    ").chars().map(replace).collect()
}

/// Columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The text, cut to a number of columns with an ellipsis.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut shown, mut used) = (String::new(), 0);
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used + 1 > columns {
            break;
        }
        shown.push(c);
    }
    if columns > 0 {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_by_columns_not_by_characters() {
        for (text, columns, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("вісник", 4, "віс…"),
            ("東京都", 5, "東京…"),
            ("東京都", 4, "東…"),
            ("ab", 1, "…"),
            ("ab", 0, ""),
        ] {
            assert_eq!(cut(text, columns), expected);
            assert!(width(&cut(text, columns)) <= columns);
        }
    }

    #[test]
    fn what_others_say_moves_no_cursor() {
        assert_eq!(
            harmless("a\u{1b}[2Jb\r\tc\n\u{9b}1m"),
            "a\u{fffd}[2Jb\u{fffd}    c\n\u{fffd}1m"
        );
    }

    #[test]
    fn styles_are_left_out_where_they_are_not_wanted() {
        let mut terminal = Terminal { columns: 80, lines: 24, has_styles: true };
        assert_eq!(terminal.styled(Style::Red, "x"), "\u{1b}[31mx\u{1b}[0m");
        terminal.has_styles = false;
        assert_eq!(terminal.styled(Style::Red, "x"), "x");
    }
}
