//! What the documents and the layers of the code say, held against the code: every command of a
//! page runs, every setting has its row, every import points downwards.
#![allow(clippy::unwrap_used, missing_docs)]

mod api_docs;
mod book;
mod circles;
mod client_feature;
mod commands;
mod comments;
mod dist;
mod guides;
mod layers;
mod links;
mod metrics_docs;
mod openapi;
mod readme;
mod regressions;
mod security_docs;
mod settings_docs;
mod traps;
mod words;
