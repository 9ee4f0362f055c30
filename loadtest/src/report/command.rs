//! `visnyk-loadtest report`: results into pictures and documentation.

use std::fs;
use std::path::{Path, PathBuf};

use super::docs::{DocsError, Written, written};
use super::results::{ReadError, read_results};
use super::summary::Summary;
use super::svg;

/// What `visnyk-loadtest report` is asked for.
#[derive(Debug, Clone, clap::Args)]
#[command(group = clap::ArgGroup::new("into").required(true).multiple(true).args(["plots", "docs"]))]
pub struct ReportCommand {
    /// Files of results, one run a line.
    #[arg(required = true, value_name = "RESULTS")]
    pub results: Vec<PathBuf>,
    /// Writes each plot as a file of this folder.
    #[arg(long, value_name = "FOLDER")]
    pub plots: Option<PathBuf>,
    /// Rewrites the blocks `<!-- figures: ... -->` of this page of Markdown, and the pictures in
    /// the folder of its name; pictures there that the page no longer shows are removed.
    #[arg(long, value_name = "PAGE")]
    pub docs: Option<PathBuf>,
}

/// Why a report could not be written, or only a part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The results cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is not one run in the results.
    #[error("there are no runs in the results")]
    Empty,
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The page of documentation is not as it must be.
    #[error("{}", path.display())]
    Docs {
        /// Which page.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: DocsError,
    },
}

impl ReportCommand {
    /// Reads all results, then writes what was asked for. Blocks; what is half written when the
    /// process ends is written anew by the next call.
    ///
    /// # Errors
    ///
    /// Results that cannot be read write nothing. A file that cannot be written ends it there.
    pub fn run(&self) -> Result<(), ReportError> {
        let mut outcomes = Vec::new();
        for path in &self.results {
            outcomes.extend(read_results(path)?);
        }
        // Documentation can say that nothing has been measured yet; a report of nothing is a
        // mistake.
        if outcomes.is_empty() && self.docs.is_none() {
            return Err(ReportError::Empty);
        }
        let summary = Summary::of(&outcomes);
        if let Some(path) = &self.docs {
            let Written { page, pictures } = docs(path, &summary)?;
            let folder = path.with_extension("");
            fs::create_dir_all(&folder).map_err(in_file(&folder))?;
            for stray in strays(&folder, &pictures)? {
                fs::remove_file(&stray).map_err(in_file(&stray))?;
            }
            for (name, svg) in pictures {
                write(&folder.join(name).with_extension("svg"), &svg)?;
            }
            write(path, &page)?;
        }
        if let Some(folder) = &self.plots {
            fs::create_dir_all(folder).map_err(in_file(folder))?;
            for plot in &summary.plots {
                write(&folder.join(format!("{}.svg", plot.name)), &svg::file(plot))?;
            }
        }
        Ok(())
    }

    /// What `--docs` would write, and the names of files that it would change or remove: none if
    /// the documentation is what the results give. Results may be empty here.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn stale(&self) -> Result<Vec<PathBuf>, ReportError> {
        let Some(path) = &self.docs else { return Ok(Vec::new()) };
        let mut outcomes = Vec::new();
        for results in &self.results {
            outcomes.extend(read_results(results)?);
        }
        let Written { page, pictures } = docs(path, &Summary::of(&outcomes))?;
        let folder = path.with_extension("");
        let mut stale = strays(&folder, &pictures)?;
        let mut expected = vec![(path.clone(), page)];
        expected.extend(
            pictures.into_iter().map(|(name, svg)| (folder.join(name).with_extension("svg"), svg)),
        );
        let is_stale = |(path, text): &(PathBuf, String)| {
            fs::read_to_string(path).map_or(true, |found| found != *text)
        };
        stale.extend(expected.into_iter().filter(is_stale).map(|(path, _)| path));
        Ok(stale)
    }
}

fn docs(path: &Path, summary: &Summary<'_>) -> Result<Written, ReportError> {
    let text = fs::read_to_string(path).map_err(in_file(path))?;
    let folder = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    written(&text, &folder, summary)
        .map_err(|source| ReportError::Docs { path: path.to_owned(), source })
}

/// Pictures in the folder that the page does not show.
fn strays(
    folder: &Path,
    pictures: &std::collections::BTreeMap<String, String>,
) -> Result<Vec<PathBuf>, ReportError> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut strays = Vec::new();
    for entry in fs::read_dir(folder).map_err(in_file(folder))? {
        let path = entry.map_err(in_file(folder))?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if path.extension().is_some_and(|end| end == "svg") && !pictures.contains_key(&*name) {
            strays.push(path);
        }
    }
    Ok(strays)
}

fn write(path: &Path, text: &str) -> Result<(), ReportError> {
    fs::write(path, text).map_err(in_file(path))
}

fn in_file(path: &Path) -> impl FnOnce(std::io::Error) -> ReportError {
    let path = path.to_owned();
    move |source| ReportError::File { path, source }
}
