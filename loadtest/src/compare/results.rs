//! The results file: an [`Outcome`] a line, so that a comparison can stop and go on.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;
use visnyk_loadtest::report::read_results;
use visnyk_loadtest::{Failure, Outcome, Scenario, in_full};

/// The outcomes of a file, and those that are added to it.
#[derive(Debug)]
pub(crate) struct Results {
    path: PathBuf,
    outcomes: Vec<Outcome>,
}

impl Results {
    /// The outcomes of the file; empty if there is no file yet.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let outcomes = if path.exists() {
            read_results(path).map_err(|error| in_full(&error))?
        } else {
            Vec::new()
        };
        Ok(Self { path: path.to_owned(), outcomes })
    }

    pub(crate) fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Whether this was run before with the same sizes, well or not.
    pub(crate) fn has(&self, server: &str, scenario: &Scenario, round: u32) -> bool {
        let parameters = parameters(scenario);
        self.outcomes.iter().any(|outcome| {
            outcome.subject == server
                && outcome.scenario == scenario.name()
                && outcome.round == round
                && parameters
                    .iter()
                    .all(|(name, value)| outcome.parameters.get(name) == Some(value))
        })
    }

    /// Appends one to the file.
    pub(crate) fn add(&mut self, outcome: Outcome) -> Result<(), String> {
        let line = serde_json::to_string(&outcome).map_err(|error| error.to_string())?;
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .and_then(|mut file| writeln!(file, "{line}"))
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        self.outcomes.push(outcome);
        Ok(())
    }

    /// Notes that a server could not be installed.
    pub(crate) fn add_absent(&mut self, server: &str, why: String) -> Result<(), String> {
        self.add(Outcome {
            scenario: INSTALL.to_owned(),
            subject: server.to_owned(),
            started_at: jiff::Timestamp::now().to_string(),
            parameters: BTreeMap::from([(FAILURE.to_owned(), Value::String(why))]),
            ..Outcome::default()
        })
    }
}

/// A run without figures: what went wrong, and what was counted of it.
pub(crate) fn failed(scenario: &Scenario, server: &str, failure: &Failure) -> Outcome {
    let mut parameters = parameters(scenario);
    parameters
        .insert(FAILURE.to_owned(), Value::String(failure.in_full().trim().replace('\n', "; ")));
    let verified = match failure {
        Failure::Faulty { verified, .. } => *verified,
        _ => Default::default(),
    };
    Outcome {
        scenario: scenario.name().to_owned(),
        subject: server.to_owned(),
        started_at: jiff::Timestamp::now().to_string(),
        parameters,
        verified,
        ..Outcome::default()
    }
}

/// What went wrong in it, if anything did.
pub(crate) fn failure_of(outcome: &Outcome) -> Option<&str> {
    outcome.parameters.get(FAILURE)?.as_str()
}

fn parameters(scenario: &Scenario) -> BTreeMap<String, Value> {
    match serde_json::to_value(scenario) {
        Ok(Value::Object(fields)) => fields.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

/// Instead of a scenario: the installation.
pub(crate) const INSTALL: &str = "install";
/// The parameter that says what went wrong.
const FAILURE: &str = "failure";

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    #[test]
    fn what_was_measured_is_not_measured_again() {
        let scratch = Scratch::new().expect("there is room");
        let path = scratch.path().join("results.jsonl");
        let burst = Scenario::from_words("burst --subscribers 10".split(' '));
        let larger = Scenario::from_words("burst --subscribers 20".split(' '));
        let mut results = Results::open(&path).expect("no file is an empty one");
        let failure = Failure::Unsupported("no".into());
        results.add(Outcome { round: 1, ..failed(&burst, "a", &failure) }).expect("it is written");
        results.add_absent("b", "no network".into()).expect("it is written");

        let results = Results::open(&path).expect("it was written");
        assert!(results.has("a", &burst, 1));
        assert!(!results.has("a", &burst, 2));
        assert!(!results.has("a", &larger, 1));
        assert!(!results.has("b", &burst, 1));
        assert_eq!(failure_of(&results.outcomes()[0]), Some("cannot run: no"));
        assert_eq!(results.outcomes()[1].scenario, INSTALL);
    }
}
