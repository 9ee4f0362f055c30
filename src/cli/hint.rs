//! What a person can do about a failure of a client command.

use std::{error::Error, iter};

use http::StatusCode;
use visnyk::{
    client::{Failure, OperateError, Problem, PublishError, SubscribeError},
    telemetry,
};

/// The hint for an error or one of its causes, if there is one to give.
pub(crate) fn hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    for error in iter::once(error).chain(telemetry::causes(error)) {
        if let Some(problem) = problem(error) {
            return of_problem(problem);
        }
        if let Some(Failure::Connection(_)) = failure(error) {
            return Some(
                "`visnyk` runs a hub on this machine; --url or VISNYK_URL says where another one is",
            );
        }
    }
    None
}

fn problem<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Problem> {
    if let Some(PublishError::Refused(problem)) = error.downcast_ref() {
        return Some(problem);
    }
    if let Some(SubscribeError::Refused(problem)) = error.downcast_ref() {
        return Some(problem);
    }
    if let Some(OperateError::Refused(problem)) = error.downcast_ref() {
        return Some(problem);
    }
    match failure(error) {
        Some(Failure::Refused { problem, .. }) => Some(problem),
        _ => None,
    }
}

fn failure<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Failure> {
    match error.downcast_ref() {
        Some(OperateError::Failed(failure)) => Some(failure),
        _ => error.downcast_ref(),
    }
}

fn of_problem(problem: &Problem) -> Option<&'static str> {
    match problem.status {
        StatusCode::UNAUTHORIZED => Some(
            "--token or VISNYK_TOKEN has the token to send; `visnyk token` mints one with the hub's \
             secret",
        ),
        StatusCode::FORBIDDEN => Some("`visnyk token --explain TOKEN` says what a token may do"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: StatusCode) -> Problem {
        Problem { status, title: None, detail: None, field: None, line: None }
    }

    #[test]
    fn a_hint_is_found_behind_what_reports_it() {
        let of = |status| PublishError::Refused(refused(status));
        assert!(hint(&of(StatusCode::UNAUTHORIZED)).is_some_and(|hint| hint.contains("--token")));
        let forbidden = OperateError::Refused(refused(StatusCode::FORBIDDEN));
        assert!(hint(&forbidden).is_some_and(|hint| hint.contains("--explain")));
        assert_eq!(hint(&of(StatusCode::BAD_REQUEST)), None);
        let source = Failure::Connection("connection refused".into());
        let gave_up = PublishError::GaveUp { waited: std::time::Duration::ZERO, source };
        assert!(hint(&gave_up).is_some_and(|hint| hint.contains("VISNYK_URL")));
        let failed = OperateError::Failed(Failure::Connection("connection refused".into()));
        assert!(hint(&failed).is_some_and(|hint| hint.contains("VISNYK_URL")));
        assert_eq!(hint(&Failure::Ended), None);
    }
}
