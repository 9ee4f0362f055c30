//! A table in Markdown. Cells are text, and made harmless.

use super::text::markdown;

/// A table with a head. A cell may have several lines. The first `labels` columns name a row; the
/// others hold numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    pub(crate) labels: usize,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| markdown(cell)).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = line(&self.head);
        for index in 0..self.head.len() {
            text.push_str(if index < self.labels { "|---" } else { "|--:" });
        }
        text.push_str("|\n");
        for row in &self.rows {
            text.push_str(&line(row));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_text() {
        let table = Table {
            head: vec!["a".into(), "b|".into()],
            labels: 1,
            rows: vec![vec!["<b>".into(), "1".into()]],
        };
        assert_eq!(table.markdown(), "| a | b\\| |\n|---|--:|\n| &lt;b&gt; | 1 |\n");
    }
}
