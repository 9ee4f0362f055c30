//! Listings of a hub: page after page up to a limit, sorted, as a table or as JSON.

use clap::ValueEnum;
use serde_json::{Map, Value, json};
use visnyk::client::OperateError;

use super::{CliError, hub::say, output, table::Table, terminal::Terminal};

/// How many rows of a listing are wanted, and in what form.
#[derive(Debug, clap::Args)]
pub(crate) struct PageArgs {
    /// Most rows to list.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) limit: u32,
    /// Continues an earlier listing, after the row that it named.
    #[arg(long, value_name = "NEXT")]
    pub(crate) after: Option<String>,
    /// Prints one JSON document, with the members that docs/api.md describes.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A member of a row by which rows are sorted, the largest first.
pub(crate) trait SortKey: ValueEnum {
    fn member(&self) -> &'static str;
}

/// The rows of a listing.
#[derive(Debug)]
pub(crate) struct Listing {
    rows: Vec<Value>,
    /// The member of a page that has them.
    member: &'static str,
    /// The cursor of the next listing.
    next: Option<String>,
    /// The other members of the first page.
    others: Map<String, Value>,
}

impl Listing {
    /// Fetches rows in the hub's order up to the limit; or all rows up to [`SORTED_MAX`], of which
    /// those with the largest figures are kept.
    pub(crate) async fn fetch(
        member: &'static str,
        args: &PageArgs,
        sort: Option<&impl SortKey>,
        fetch: impl AsyncFn(&[(&str, &str)]) -> Result<Value, OperateError>,
    ) -> Result<Self, CliError> {
        let limit = args.limit as usize;
        let wanted = if sort.is_some() { SORTED_MAX } else { limit };
        let next = args.after.clone();
        let mut listing = Self { rows: Vec::new(), member, next, others: Map::new() };
        loop {
            let page_limit = (wanted - listing.rows.len()).min(PAGE_MAX).to_string();
            let mut query = vec![("limit", page_limit.as_str())];
            query.extend(listing.next.as_deref().map(|after| ("after", after)));
            let Value::Object(mut page) = fetch(&query).await.map_err(CliError::failed)? else {
                return Err(CliError::failed(OperateError::NotAHub));
            };
            let Some(Value::Array(rows)) = page.remove(member) else {
                return Err(CliError::failed(OperateError::NotAHub));
            };
            listing.rows.extend(rows);
            let next = page.remove("next").and_then(|next| Some(next.as_str()?.to_owned()));
            // A hub with a fault that would send the same page again and again.
            let is_stuck = next.is_some() && next == listing.next;
            listing.next = next;
            if listing.others.is_empty() {
                listing.others = page;
            }
            if listing.next.is_none() || is_stuck || listing.rows.len() >= wanted {
                break;
            }
        }
        if let Some(sort) = sort {
            if listing.next.take().is_some() {
                say(&format!(
                    "there are more than {SORTED_MAX}: only the first of them are sorted"
                ));
            }
            let figure = |row: &Value| row[sort.member()].as_u64().unwrap_or(0);
            listing.rows.sort_by_key(|row| std::cmp::Reverse(figure(row)));
            listing.rows.truncate(limit);
        }
        Ok(listing)
    }

    /// Prints the rows as one JSON document, or as a table with a note on how to see more.
    pub(crate) fn print(
        self,
        args: &PageArgs,
        table: fn(&[Value]) -> Table,
    ) -> Result<(), CliError> {
        if args.json {
            return output::print(self.into_json());
        }
        output::print(table(&self.rows).render(Terminal::of_stdout().as_ref()))?;
        self.note_next();
        Ok(())
    }

    fn into_json(self) -> String {
        let mut document = json!({ (self.member): self.rows });
        for (name, value) in self.others {
            document[name] = value;
        }
        if let Some(next) = self.next {
            document["next"] = next.into();
        }
        format!("{document:#}\n")
    }

    /// Prints on stderr how to see more.
    fn note_next(&self) {
        if let Some(next) = &self.next {
            say(&format!("there are more: --after {next}, or a larger --limit"));
        }
        if let Some(shards) = self.others.get("unanswered_shards") {
            say(&format!("shards {shards} did not answer: their connections are missing"));
        }
    }
}

/// Rows that are fetched to be sorted.
const SORTED_MAX: usize = 20_000;
/// Most rows of one page of a hub.
const PAGE_MAX: usize = 1_000;
