//! Tables: aligned and cut to its width on a terminal, separated by tabs elsewhere.

use super::terminal::{Style, Terminal, cut, harmless, width};

/// A column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    heading: &'static str,
    is_number: bool,
    /// Whether the column becomes narrower if the terminal is too narrow for the table.
    gives_way: bool,
}

/// What a cell shows: to people, and to programs.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    for_people: String,
    for_programs: String,
    style: Option<Style>,
}

/// Rows below headings.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Column {
    /// A column of words.
    pub(crate) const fn words(heading: &'static str) -> Self {
        Self { heading, is_number: false, gives_way: false }
    }

    /// A column of words of any length.
    pub(crate) const fn long(heading: &'static str) -> Self {
        Self { heading, is_number: false, gives_way: true }
    }

    /// A column of figures.
    pub(crate) const fn number(heading: &'static str) -> Self {
        Self { heading, is_number: true, gives_way: false }
    }
}

impl Cell {
    /// The same text for a terminal and a pipe, without tabs and line feeds, which would begin
    /// another cell or row.
    pub(crate) fn text(text: &str) -> Self {
        let text = harmless(text).replace('\n', " ");
        Self { for_people: text.clone(), for_programs: text, style: None }
    }

    /// A figure, rounded or with its unit for people.
    pub(crate) fn figure(for_people: String, for_programs: impl ToString) -> Self {
        Self { for_people, for_programs: for_programs.to_string(), style: None }
    }

    /// Styles the cell on a terminal.
    pub(crate) fn styled(self, style: Option<Style>) -> Self {
        Self { style, ..self }
    }
}

impl Table {
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, with a cell for each column.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// The table as text: aligned for a terminal, separated by tabs otherwise.
    pub(crate) fn render(&self, terminal: Option<&Terminal>) -> String {
        match terminal {
            Some(terminal) => self.for_people(terminal),
            None => self.for_programs(),
        }
    }

    fn for_programs(&self) -> String {
        let headings: Vec<&str> = self.columns.iter().map(|column| column.heading).collect();
        let mut text = headings.join("\t") + "\n";
        for row in &self.rows {
            let cells: Vec<&str> = row.iter().map(|cell| &*cell.for_programs).collect();
            text += &(cells.join("\t") + "\n");
        }
        text
    }

    fn for_people(&self, terminal: &Terminal) -> String {
        let widths = self.widths(terminal.columns);
        let mut text = String::new();
        let headings = self.columns.iter().map(|column| (column.heading, Some(Style::Bold)));
        push_line(&mut text, terminal, &widths, &self.columns, headings);
        for row in &self.rows {
            let cells = row.iter().map(|cell| (&*cell.for_people, cell.style));
            push_line(&mut text, terminal, &widths, &self.columns, cells);
        }
        text
    }

    /// The width of each column: that of its widest cell. If these are too wide together, the
    /// columns that give way share the rest.
    fn widths(&self, columns: usize) -> Vec<usize> {
        let widest = |at: usize| {
            let cells = self.rows.iter().map(|row| width(&row[at].for_people));
            cells.max().unwrap_or(0).max(width(self.columns[at].heading))
        };
        let mut widths: Vec<usize> = (0..self.columns.len()).map(widest).collect();
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        let mut over = (widths.iter().sum::<usize>() + gaps).saturating_sub(columns);
        while over > 0 {
            // Each step narrows one cell by one column of the terminal.
            let giving = (0..widths.len())
                .filter(|at| self.columns[*at].gives_way && widths[*at] > LONG_WIDTH_MIN);
            let Some(at) = giving.max_by_key(|at| widths[*at]) else { break };
            widths[at] -= 1;
            over -= 1;
        }
        widths
    }
}

fn push_line<'a>(
    text: &mut String,
    terminal: &Terminal,
    widths: &[usize],
    columns: &[Column],
    cells: impl Iterator<Item = (&'a str, Option<Style>)>,
) {
    let (mut line, mut left) = (String::new(), terminal.columns);
    for (at, ((cell, style), column)) in cells.zip(columns).enumerate() {
        let gap = if at == 0 { "" } else { GAP };
        // The terminal does not show what is beyond its last column.
        let Some(room) = left.checked_sub(gap.len()).filter(|room| *room > 0) else { break };
        let wide = widths[at].min(room);
        let shown = cut(cell, wide);
        let pad = " ".repeat(wide.saturating_sub(width(&shown)));
        let styled = style.map_or(shown.clone(), |style| terminal.styled(style, &shown));
        line += gap;
        line += &if column.is_number { pad + &styled } else { styled + &pad };
        left = room - wide;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

/// The gap between two columns.
const GAP: &str = "  ";
/// The smallest width of a column that gives way.
const LONG_WIDTH_MIN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[
            Column::long("CHANNEL"),
            Column::number("EVENTS"),
            Column::words("STATE"),
        ]);
        table.push(vec![
            Cell::text("orders/europe/kyiv/podil"),
            Cell::figure("1,042".into(), 1042),
            Cell::text("open").styled(Some(Style::Green)),
        ]);
        table.push(vec![Cell::text("a\tb"), Cell::figure("0".into(), 0), Cell::text("")]);
        table
    }

    fn terminal(columns: usize) -> Terminal {
        Terminal { columns, lines: 24, has_styles: false }
    }

    #[test]
    fn programs_get_tabs_and_figures_as_they_are() {
        assert_eq!(
            table().render(None),
            "CHANNEL\tEVENTS\tSTATE\norders/europe/kyiv/podil\t1042\topen\na    b\t0\t\n"
        );
    }

    #[test]
    fn people_get_columns_and_the_long_one_gives_way() {
        assert_eq!(
            table().render(Some(&terminal(80))),
            "CHANNEL                   EVENTS  STATE\n\
             orders/europe/kyiv/podil   1,042  open\n\
             a    b                         0\n"
        );
        assert_eq!(
            table().render(Some(&terminal(30))),
            "CHANNEL          EVENTS  STATE\norders/europe/…   1,042  open\na    b                0\n"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for columns in 1..60 {
            for line in table().render(Some(&terminal(columns))).lines() {
                assert!(width(line) <= columns, "{columns}: {line:?}");
            }
        }
    }

    #[test]
    fn styles_take_no_columns() {
        let styled = Terminal { has_styles: true, ..terminal(80) };
        let text = table().render(Some(&styled));
        assert!(text.contains("1,042  \u{1b}[32mopen\u{1b}[0m\n"), "{text:?}");
    }
}
