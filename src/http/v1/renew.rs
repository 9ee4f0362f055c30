//! `POST /v1/connections/{id}/token`: a fresh token for an open stream.

use axum::http::StatusCode;

use super::connections::connection_id;
use crate::{
    http::{
        Problem,
        authentication::until_ms,
        authorization::Action,
        call::{Call, Context, Next},
        params::path_parameter,
    },
    hub::Renewal,
};

/// The renewal of a lease: the token of this request becomes the token of the connection.
pub(in crate::http) struct Renew {
    /// The id as written in the path.
    text: String,
}

impl Renew {
    pub(in crate::http) fn of(context: &Context<'_>) -> Result<Self, Problem> {
        Ok(Self { text: path_parameter(context.parameter, "id")?.into_owned() })
    }
}

impl Call for Renew {
    fn action(&self) -> Action<'_> {
        Action::RenewLease
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        let Self { text } = self;
        let until_ms = until_ms(context.state, &context.identity);
        let renewal = match connection_id(&text) {
            Some(id) => context.state.hub.renew(id, context.identity.clone(), until_ms).await,
            None => Some(Renewal::NoSuchConnection),
        };
        match renewal {
            Some(Renewal::Renewed) => Ok(Next::response(StatusCode::NO_CONTENT)),
            Some(Renewal::Ended) => {
                let detail =
                    "the token does not allow all that the connection receives; it is ended";
                Err(Problem::new(StatusCode::FORBIDDEN, detail)
                    .with("reason", "permissions")
                    .challenge("insufficient_scope", detail))
            }
            Some(Renewal::NoSuchConnection) => {
                let detail = format!("this subject has no connection `{text}`");
                Err(Problem::new(StatusCode::NOT_FOUND, detail).with("connection", text))
            }
            None => {
                let detail = "the connection's shard did not answer";
                let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
                Err(problem.retry_soon())
            }
        }
    }
}
