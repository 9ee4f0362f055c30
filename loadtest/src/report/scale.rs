//! How values lie on an axis, and where its ticks are.

/// How values lie on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Evenly, from 0: a curve that starts elsewhere would make differences look larger.
    Linear,
    /// By powers of ten. Only values above 0 can be shown.
    Log,
    /// Percentiles by 1/(1-p): each further nine has as much room as the one before.
    Tail,
}

/// A part of a scale, with its ticks.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    scale: Scale,
    low: f64,
    high: f64,
    /// The values with a tick, in order.
    pub(crate) ticks: Vec<f64>,
}

impl Scale {
    /// The coordinate of a value, in any unit; `None` if the scale cannot show it.
    fn coordinate(self, value: f64) -> Option<f64> {
        match self {
            _ if !value.is_finite() => None,
            Self::Linear => Some(value),
            Self::Log => (value > 0.0).then(|| value.log10()),
            Self::Tail => (0.0..100.0).contains(&value).then(|| -(1.0 - value / 100.0).log10()),
        }
    }
}

impl Range {
    /// The range that shows all of `values` and ends in ticks where the scale has them.
    pub(crate) fn around(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| scale.coordinate(*value).is_some()) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (1.0, 1.0);
        }
        let ticks = match scale {
            Scale::Linear => linear_ticks(low.min(0.0), high.max(0.0)),
            Scale::Log => log_ticks(low, high),
            Scale::Tail => NINES.iter().copied().filter(|nine| *nine <= high).collect(),
        };
        let (first, last) = (ticks.first().copied(), ticks.last().copied());
        let low = if scale == Scale::Tail { 0.0 } else { first.map_or(low, |tick| tick.min(low)) };
        let high = last.map_or(high, |tick| tick.max(high));
        let high = if scale == Scale::Tail { high.max(NINES[0]) } else { high };
        Self { scale, low, high, ticks }
    }

    /// The fraction of the range at which a value lies: 0 at its beginning, 1 at its end.
    pub(crate) fn fraction(&self, value: f64) -> Option<f64> {
        let low = self.scale.coordinate(self.low)?;
        let high = self.scale.coordinate(self.high)?;
        Some((self.scale.coordinate(value)? - low) / (high - low).max(f64::MIN_POSITIVE))
    }
}

/// About five even steps of 1, 2 or 5 times a power of ten.
fn linear_ticks(low: f64, high: f64) -> Vec<f64> {
    let span = high - low;
    if span <= 0.0 {
        return vec![0.0, 1.0];
    }
    let rough = span / STEPS;
    let power = rough.log10().floor() as i32;
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| scaled(*f, power) >= rough * 0.999);
    let factor = factor.unwrap_or(10.0);
    let step = scaled(factor, power);
    let (first, last) = ((low / step).floor() as i32, (high / step - 1e-9).ceil() as i32);
    (first..=last).map(|n| scaled(f64::from(n) * factor, power)).collect()
}

/// Powers of ten; between them 2 and 5 where they are few.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let factors: &[f64] =
        if last - first <= DECADES_WITH_STEPS { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let all: Vec<f64> =
        (first..=last).flat_map(|power| factors.iter().map(move |f| scaled(*f, power))).collect();
    let from = all.iter().rposition(|tick| *tick <= low * 1.000_1).unwrap_or(0);
    let to = all.iter().position(|tick| *tick >= high * 0.999_9).unwrap_or(all.len() - 1);
    let ticks = &all[from..=to.max(from)];
    if ticks.len() > 1 { ticks.to_vec() } else { all[from..(from + 2).min(all.len())].to_vec() }
}

/// `factor` times a power of ten, rounded as its decimal form would be.
fn scaled(factor: f64, power: i32) -> f64 {
    if power < 0 { factor / 10_f64.powi(-power) } else { factor * 10_f64.powi(power) }
}

/// Steps that a linear axis has, about.
const STEPS: f64 = 5.0;

/// Up to so many powers of ten, 2 and 5 have ticks too.
const DECADES_WITH_STEPS: i32 = 2;

/// Percentiles with a tick.
const NINES: [f64; 7] = [50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999];

#[cfg(test)]
mod tests {
    use super::*;

    fn range(scale: Scale, values: &[f64]) -> Range {
        Range::around(scale, values.iter().copied())
    }

    #[test]
    fn linear_axis_begins_at_0() {
        let range = range(Scale::Linear, &[930.0, 960.0]);
        assert_eq!(range.ticks, [0.0, 200.0, 400.0, 600.0, 800.0, 1_000.0]);
        assert_eq!(range.fraction(500.0), Some(0.5));
    }

    #[test]
    fn small_steps_are_exact() {
        assert_eq!(range(Scale::Linear, &[0.29]).ticks, [0.0, 0.1, 0.2, 0.3]);
        assert_eq!(range(Scale::Linear, &[-3.0, 4.0]).ticks, [-4.0, -2.0, 0.0, 2.0, 4.0]);
    }

    #[test]
    fn log_axis_has_steps_where_powers_are_few() {
        assert_eq!(range(Scale::Log, &[0.3, 4.0]).ticks, [0.2, 0.5, 1.0, 2.0, 5.0]);
        assert_eq!(range(Scale::Log, &[0.03, 900.0]).ticks, [0.01, 0.1, 1.0, 10.0, 100.0, 1_000.0]);
        assert_eq!(range(Scale::Log, &[0.0, -1.0, 5.0]).ticks, [5.0, 10.0]);
    }

    #[test]
    fn every_nine_has_as_much_room() {
        let range = range(Scale::Tail, &[0.0, 50.0, 99.995, 100.0]);
        assert_eq!(range.ticks, [50.0, 90.0, 99.0, 99.9, 99.99]);
        let coordinate = |value| range.fraction(value).expect("within");
        let (first, second) =
            (coordinate(99.0) - coordinate(90.0), coordinate(99.9) - coordinate(99.0));
        assert!((first - second).abs() < 1e-9);
        assert_eq!(range.fraction(100.0), None, "infinitely far");
    }

    #[test]
    fn nothing_and_equal_values_have_a_range() {
        for scale in [Scale::Linear, Scale::Log, Scale::Tail] {
            for values in
                [&[][..], &[0.0], &[7.0, 7.0], &[f64::NAN, f64::INFINITY], &[1e-300], &[1e300]]
            {
                let range = range(scale, values);
                assert!(range.ticks.len() < 320, "{scale:?} {values:?}");
                for value in values {
                    let at = range.fraction(*value).unwrap_or(0.0);
                    assert!((-1e-9..=1.000_001).contains(&at), "{scale:?} {values:?} {at}");
                }
            }
        }
    }
}
