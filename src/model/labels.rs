//! Enums whose variants have a word each: in metrics, in logs, on the wire.

/// Defines an enum with the word of each variant beside it, `ALL`, which has the variants in their
/// order, and `as_str`, which gives the word.
macro_rules! labels {
    (
        $(#[$attribute:meta])*
        $vis:vis enum $labels:ident {
            $($(#[$doc:meta])* $variant:ident = $word:literal,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $labels {
            $($(#[$doc])* $variant,)*
        }

        impl $labels {
            /// All variants, in their order.
            $vis const ALL: [Self; [$($word),*].len()] = [$(Self::$variant),*];

            /// Its word.
            $vis const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

pub(crate) use labels;
