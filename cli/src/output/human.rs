//! Numbers for people, in at most six columns where nothing else is said.

use crate::rows::Percentile;

/// Shown where there is no value.
pub(crate) const ABSENT: &str = "-";

/// With three digits and a unit of powers of `base`: at most six columns.
fn scaled(value: f64, base: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = "";
    for u in units {
        unit = u;
        if value < 999.5 {
            break;
        }
        if units.last() != Some(u) {
            value /= base;
        }
    }
    match value {
        v if unit.is_empty() && v == v.trunc() => format!("{v:.0}"),
        v if v < 9.995 => format!("{v:.2}{unit}"),
        v if v < 99.95 => format!("{v:.1}{unit}"),
        v => format!("{v:.0}{unit}"),
    }
}

/// `n` things, in the right number.
pub(crate) fn nr(n: impl std::fmt::Display, what: &str) -> String {
    let n = n.to_string();
    let s = if n == "1" { "" } else { "s" };
    format!("{n} {what}{s}")
}

/// How many.
pub(crate) fn count(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G", "T", "P"])
}

/// Bytes, in powers of 1024.
pub(crate) fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &["", "K", "M", "G", "T", "P"])
}

/// CPUs' worth of time in percent, as top shows it.
pub(crate) fn percent(cpus: f64) -> String {
    match cpus * 100.0 {
        p if p < 999.95 => format!("{p:.1}"),
        p => format!("{p:.0}"),
    }
}

/// A duration in its largest unit.
pub(crate) fn duration(ns: u64) -> String {
    let s = ns as f64 / 1e9;
    match s {
        s if s < 1e-3 => format!("{:.0}us", s * 1e6),
        s if s < 0.9995 => format!("{:.0}ms", s * 1e3),
        s if s < 99.95 => format!("{s:.1}s"),
        s if s < 5999.5 => format!("{:.0}m", s / 60.0),
        s if s < 172_800.0 => format!("{:.0}h", s / 3600.0),
        s => format!("{:.0}d", s / 86_400.0),
    }
}

/// A duration of three digits that is not shorter than `ns`: at most six columns.
pub(crate) fn duration_up(ns: u64) -> String {
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    let unit = units.into_iter().rev().find(|(_, size)| ns as f64 >= *size);
    let (unit, size) = unit.unwrap_or(("ns", 1.0));
    match ns as f64 / size {
        v if size == 1.0 => format!("{v:.0}{unit}"),
        v if v <= 9.99 => format!("{:.2}{unit}", (v * 100.0).ceil() / 100.0),
        v if v <= 99.9 => format!("{:.1}{unit}", (v * 10.0).ceil() / 10.0),
        v => format!("{:.0}{unit}", v.ceil()),
    }
}

/// The bounds of a percentile, at most eight columns: never more precise than its bucket.
pub(crate) fn percentile(percentile: Percentile) -> String {
    match percentile {
        Percentile::AtMost(ns) => format!("<={}", duration_up(ns)),
        Percentile::AtLeast(ns) => format!(">={}s", ns / 1_000_000_000),
    }
}

/// `value` as `how` shows it.
pub(crate) fn or_absent<T>(value: Option<T>, how: impl Fn(T) -> String) -> String {
    value.map_or_else(|| ABSENT.to_owned(), how)
}

/// At most `width` columns of `text`, and an ellipsis where some are missing.
pub(crate) fn clip(text: &str, width: usize) -> String {
    use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= width
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// Nanoseconds as seconds, to the millisecond up to eleven days: at most ten columns for 317 years.
pub(crate) fn seconds(ns: u64) -> String {
    match ns as f64 / 1e9 {
        s if s < 999_999.999_5 => format!("{s:.3}"),
        s if s < 99_999_999.95 => format!("{s:.1}"),
        s => format!("{s:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit() {
        assert_eq!((nr(0, "row"), nr(1, "row")), ("0 rows".to_owned(), "1 row".to_owned()));
        assert_eq!(count(0.0), "0");
        assert_eq!(count(7.0), "7");
        assert_eq!(count(0.25), "0.25");
        assert_eq!(count(999.6), "1.00k");
        assert_eq!(bytes(1024.0 * 1024.0 * 1.5), "1.50M");
        assert_eq!(bytes(1e30), "888178419700125P");
        assert_eq!(percent(12.0), "1200");
        assert_eq!(duration(1_500), "2us");
        assert_eq!(duration(999_600_000), "1.0s");
        assert_eq!(duration(u64::MAX), "213504d");
        for (ns, text) in [
            (0, "0ns"),
            (1023, "1.03us"),
            (262_143, "263us"),
            ((1 << 20) - 1, "1.05ms"),
            ((1 << 24) - 1, "16.8ms"),
            (999_950_000, "1000ms"),
            ((1 << 38) - 1, "275s"),
        ] {
            assert_eq!(duration_up(ns), text);
        }
        assert_eq!(percentile(Percentile::AtLeast(1 << 38)), ">=274s");
        assert_eq!(seconds(1_234_567_890), "1.235");
        assert_eq!(seconds(999_999_999_400_000), "999999.999");
        assert_eq!(seconds(u64::MAX).len(), 11);
        assert_eq!(seconds(9_999_999_999_000_000_000).len(), 10);
        assert_eq!(clip("täglich", 5), "tägl…");
        assert_eq!(clip("日本語", 4), "日…");
        assert_eq!(clip("web1", 4), "web1");
    }
}
