//! `POST /v1/reload`: reloads the settings of the running hub.

use axum::{Json, http::StatusCode};
use serde_json::json;

use crate::http::{
    Problem, ReloadRefusal, Reloaded,
    authorization::Action,
    call::{Call, Context, Next},
    params::Query,
};

/// A reload, as at SIGHUP.
pub(in crate::http) struct Reload;

impl Reload {
    pub(in crate::http) fn of(context: &Context<'_>) -> Result<Self, Problem> {
        Query::of(&context.parts.uri)?;
        Ok(Self)
    }
}

impl Call for Reload {
    fn action(&self) -> Action<'_> {
        Action::Administer
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        let Some(reloads) = &context.state.reloads else {
            let detail = "this hub runs in another program, which has its settings";
            return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, detail));
        };
        let Reloaded { changed, needs_restart } = reloads.reload().await.map_err(problem)?;
        let answer = json!({ "changed": changed, "needs_restart": needs_restart });
        Ok(Next::response(Json(answer)))
    }
}

fn problem(refusal: ReloadRefusal) -> Problem {
    let unavailable = |detail| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
    match refusal {
        ReloadRefusal::Invalid(reasons) => {
            let detail = format!("nothing has changed: {}", reasons.join("; "));
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with("reasons", reasons)
        }
        ReloadRefusal::Draining => unavailable("the hub is ending and does not read its settings"),
        ReloadRefusal::TooMany => {
            unavailable("too many reloads wait for the one under way").retry_soon()
        }
    }
}
