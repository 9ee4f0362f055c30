//! A table, for a page in HTML or in Markdown. Cells are text; either form makes them harmless.

use std::fmt::Write as _;

use super::text::{markdown, markup};

/// A table with a head. A cell may have several lines. The first `labels` columns name a row; the others hold numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    pub(crate) labels: usize,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn html(&self, caption: &str) -> String {
        let mut html = format!(
            "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"{caption}\"><table>\n\
             <caption>{caption}</caption>\n<thead><tr>",
            caption = markup(caption)
        );
        for (index, cell) in self.head.iter().enumerate() {
            let class = if index < self.labels { " class=\"label\"" } else { "" };
            let _ = write!(html, "<th scope=\"col\"{class}>{}</th>", markup(cell));
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            html.push_str("<tr>");
            for (index, cell) in row.iter().enumerate() {
                let lines: Vec<String> = cell.split('\n').map(markup).collect();
                let cell = lines.join("<br>");
                let _ = if index < self.labels {
                    write!(html, "<th scope=\"row\">{cell}</th>")
                } else {
                    write!(html, "<td>{cell}</td>")
                };
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div>\n");
        html
    }

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
    fn cells_are_text_in_both_forms() {
        let table = Table {
            head: vec!["a".into(), "b|".into()],
            labels: 1,
            rows: vec![vec!["<b>".into(), "1".into()]],
        };
        assert_eq!(table.markdown(), "| a | b\\| |\n|---|--:|\n| &lt;b&gt; | 1 |\n");
        let html = table.html("c\"");
        assert!(html.contains("<th scope=\"row\">&lt;b&gt;</th><td>1</td>"), "{html}");
        assert!(html.contains("aria-label=\"c&quot;\""), "{html}");
    }
}
