//! Lists whose members have weights, as those of `Accept` and `Accept-Encoding` (RFC 9110, section
//! 12.4.2).

use axum::http::{HeaderMap, HeaderName};

/// What a request prefers, by a header field that may be there several times: each name of its
/// lists, with the weight in thousandths.
pub(super) fn weighted_names(
    headers: &HeaderMap,
    field: HeaderName,
) -> impl Iterator<Item = (&str, u16)> {
    let values = headers.get_all(field).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(weighted_list)
}

/// The names of one list with their weights. Names are compared without regard to case. Empty
/// members are passed over (section 5.6.1.2); a malformed weight counts as 0.
pub(super) fn weighted_list(list: &str) -> impl Iterator<Item = (&str, u16)> {
    split_unquoted(list, ',').filter_map(|member| {
        let mut parts = split_unquoted(member, ';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight = parts.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.eq_ignore_ascii_case("q").then_some(value)
        });
        Some((name, weight.map_or(1_000, |text| thousandths(text).unwrap_or(0))))
    })
}

/// Splits a text where a separator is not within a quoted string (section 5.6.4).
pub(super) fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |char| {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = is_quoted,
            '"' => is_quoted = !is_quoted,
            _ => return char == separator && !is_quoted,
        }
        false
    })
}

/// A weight between 0 and 1. Of the digits behind the point three count; there should be no more.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole = match whole {
        "0" => 0,
        "1" => 1_000,
        _ => return None,
    };
    let digits = fraction.bytes().zip([100, 10, 1]);
    let weight = whole + digits.map(|(digit, unit)| u16::from(digit - b'0') * unit).sum::<u16>();
    (weight <= 1_000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_weight_however_it_is_written() {
        for (list, expected) in [
            ("gzip", &[("gzip", 1_000)][..]),
            ("gzip;q=0.5, br", &[("gzip", 500), ("br", 1_000)]),
            ("gzip;Q=0", &[("gzip", 0)]),
            ("gzip ;\tq=0.001 ,br;q=0.999", &[("gzip", 1), ("br", 999)]),
            ("a;q=0.,b;q=1.000,c;q=0.12345", &[("a", 0), ("b", 1_000), ("c", 123)]),
            ("text/plain;version=1;q=0.3;more", &[("text/plain", 300)]),
            (r#"a/b;c=",;q=0";q=0.2, d"#, &[("a/b", 200), ("d", 1_000)]),
            (r#"a/b;c="\",";q=0.2"#, &[("a/b", 200)]),
            (r#"a/b;c="never closed,d"#, &[("a/b", 1_000)]),
            (",, gzip , ,", &[("gzip", 1_000)]),
            ("", &[]),
            (";q=1", &[]),
        ] {
            assert_eq!(weighted_list(list).collect::<Vec<_>>(), expected, "{list}");
        }
        for malformed in ["", "2", "-1", "1.001", ".5", "0.x", "+0.5", "inf", "NaN", "\"1\""] {
            let list = format!("gzip;q={malformed}");
            assert_eq!(weighted_list(&list).collect::<Vec<_>>(), [("gzip", 0)], "{malformed}");
        }
    }
}
