//! How lines look: colours for both schemes, dashes, markers; and the sheet that applies them.

use std::fmt::Write as _;

/// How a line looks. Colour, dashes and marker each tell it from the others alone.
pub(crate) struct Style {
    /// At least 3:1 against white.
    pub(crate) light: &'static str,
    /// At least 3:1 against the dark background.
    pub(crate) dark: &'static str,
    pub(crate) dashes: &'static str,
    pub(crate) mark: &'static str,
}

const fn style(
    light: &'static str,
    dark: &'static str,
    dashes: &'static str,
    mark: &'static str,
) -> Style {
    Style { light, dark, dashes, mark }
}

/// Hues after Okabe and Ito's palette for colour-blind readers, darker and lighter where contrast
/// needs it.
pub(crate) const STYLES: [Style; 8] = [
    style("#0067b0", "#58a6ff", "", "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z"),
    style("#6e7781", "#adbac7", "6 4", "M-4-4h8v8h-8z"),
    style("#c44f00", "#ff8f45", "", "M0-5.5L5.3 4H-5.3z"),
    style("#00805e", "#33cc99", "9 3", "M0-6L5 0L0 6L-5 0z"),
    style("#a8478a", "#e58fc8", "3 3", "M0 5.5L5.3-4H-5.3z"),
    style(
        "#8a6a00",
        "#dcb53c",
        "9 3 3 3",
        "M-1.6-5h3.2v3.4h3.4v3.2h-3.4v3.4h-3.2v-3.4h-3.4v-3.2h3.4z",
    ),
    style("#1f7f96", "#63cfe6", "1 3", "M-5-2.5h10v5h-10z"),
    style("#111111", "#ffffff", "12 4", "M-2.5-5h5v10h-5z"),
];

/// The style of all pictures, in both colour schemes.
pub(crate) fn style_sheet() -> String {
    let mut css = String::from(
        ".plot text{font:14px system-ui,sans-serif}.plot .title{font-weight:600;font-size:16px}\
         .plot .grid{stroke-width:1}.plot .line{fill:none;stroke-width:2;stroke-linejoin:round}\
         .plot .spread{stroke-width:1.5}.plot .mark{stroke-width:1}",
    );
    let mut scheme = |begin: &str, [back, text, grid]: [&str; 3], colours: &[&str], end: &str| {
        let _ = write!(
            css,
            "{begin}.plot .back{{fill:{back}}}.plot text{{fill:{text}}}.plot .grid{{stroke:{grid}}}\
             .plot .mark{{stroke:{back}}}"
        );
        for (style, colour) in colours.iter().enumerate() {
            let _ =
                write!(css, ".plot .l{style}{{stroke:{colour}}}.plot .m{style}{{fill:{colour}}}");
        }
        css.push_str(end);
    };
    scheme("", ["#fff", "#24292f", "#d8dee4"], &STYLES.map(|style| style.light), "");
    scheme(
        "@media screen and (prefers-color-scheme:dark){",
        ["#161b22", "#e6edf3", "#373e47"],
        &STYLES.map(|style| style.dark),
        "}",
    );
    for (index, style) in STYLES.iter().enumerate() {
        if !style.dashes.is_empty() {
            let _ = write!(css, ".plot .l{index}{{stroke-dasharray:{}}}", style.dashes);
        }
    }
    css.push_str(".plot .spread{stroke-dasharray:none}");
    css
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lines_look_alike_without_colour() {
        let mut marks: Vec<&str> = STYLES.iter().map(|style| style.mark).collect();
        marks.sort_unstable();
        marks.dedup();
        assert_eq!(marks.len(), STYLES.len());
    }

    #[test]
    fn colours_stand_out_from_their_background() {
        for style in STYLES {
            assert!(contrast(style.light, "#ffffff") >= 3.0, "{}", style.light);
            assert!(contrast(style.dark, "#161b22") >= 3.0, "{}", style.dark);
        }
    }

    /// The ratio of WCAG 2, "contrast ratio".
    fn contrast(a: &str, b: &str) -> f64 {
        let luminance = |colour: &str| {
            let channel = |at: usize| {
                let byte = u8::from_str_radix(&colour[at..at + 2], 16).expect("six digits");
                let value = f64::from(byte) / 255.0;
                if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }
}
