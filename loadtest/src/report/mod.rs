//! Results read back: pictures, and the tables of the documentation.
//!
//! | module | is |
//! |---|---|
//! | `results` | lines of results, read; an error has its file and line |
//! | `case` | runs of the same thing gathered: medians, spread, ratios to the floor |
//! | `figure` | what a figure is called, and its unit |
//! | `number` | numbers for people |
//! | `chart`, `scale`, `svg`, `style` | a plot, its axes, its picture, how its lines look |
//! | `plots` | which plots some results give |
//! | `summary`, `table` | figures beside one another; tables |
//! | `text` | names from results made harmless |
//! | `docs` | blocks of a page of the documentation, written from results |
//! | `targets` | what was to be reached |
//! | `command` | the command line |

mod case;
mod chart;
mod command;
mod docs;
#[cfg(test)]
mod example;
mod figure;
mod number;
mod plots;
mod results;
mod scale;
mod style;
mod summary;
mod svg;
mod table;
mod targets;
mod text;

pub use command::{ReportCommand, ReportError};
pub use docs::{DocsError, Written};
pub use results::{ReadError, read_results};
