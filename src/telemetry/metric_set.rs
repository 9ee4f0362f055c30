//! Defines a struct of metrics by a table, so that the name and the help of a metric stand in one
//! row.
//!
//! A row has the field, its type, its first value if that is not the default, and the help, which
//! documents the field too. A metric has the name of its field, unless the row gives another with
//! `as`.

/// Defines the struct, `unregistered`, which makes it, and `register_all`, which registers its
/// metrics in the order of the table. Fields in `and` are not metrics of the table; they begin with
/// their default.
macro_rules! metric_set {
    (
        $(#[$attribute:meta])*
        pub struct $set:ident {
            $(
                $(#[$doc:meta])*
                $vis:vis $field:ident $(as $name:literal)?: $kind:ty $(= $first:expr)?,
                    $help:literal;
            )*
        }
        $(and {
            $(
                $(#[doc = $what:literal])*
                $(#[cfg($condition:meta)])?
                $other_vis:vis $other:ident: $other_kind:ty,
            )*
        })?
    ) => {
        $(#[$attribute])*
        #[derive(Debug)]
        pub struct $set {
            $(
                #[doc = concat!($help, ".")]
                $(#[$doc])*
                $vis $field: $kind,
            )*
            $($(
                $(#[doc = $what])*
                $(#[cfg($condition)])?
                $other_vis $other: $other_kind,
            )*)?
        }

        impl $set {
            fn unregistered() -> Self {
                Self {
                    $($field: $crate::telemetry::metric_set::metric_set!(@first $($first)?),)*
                    $($($(#[cfg($condition)])? $other: Default::default(),)*)?
                }
            }

            fn register_all(&self, registry: &mut prometheus_client::registry::Registry) {
                $(registry.register(
                    $crate::telemetry::metric_set::metric_set!(@name $field $($name)?),
                    $help,
                    self.$field.clone(),
                );)*
            }
        }
    };
    (@first) => { Default::default() };
    (@first $first:expr) => { $first };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
}

pub(super) use metric_set;
