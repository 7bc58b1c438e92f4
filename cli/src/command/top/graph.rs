//! Graphs of braille dots: two samples a column of the terminal, four steps a row.

/// Dots of a cell's two columns, from the lowest to the highest.
const DOTS: [[u32; 4]; 2] = [[0x40, 0x04, 0x02, 0x01], [0x80, 0x20, 0x10, 0x08]];
/// The braille pattern without a dot.
const BLANK: u32 = 0x2800;

/// The newest of `values` as rows of `width` columns, the highest row first, the newest value at
/// the right. `max` fills all rows; a value above 0 has one dot at least, an unknown one none.
pub(super) fn rows(values: &[Option<f64>], width: usize, height: usize, max: f64) -> Vec<String> {
    let steps = height * 4;
    let shown = newest(values, width);
    let empty = width * 2 - shown.len();
    #[allow(clippy::cast_possible_truncation, reason = "it is at most the number of steps")]
    #[allow(clippy::cast_sign_loss, reason = "it is not negative")]
    let level = |value: Option<f64>| match value {
        Some(value) if value > 0.0 && max > 0.0 => {
            ((value / max * steps as f64).round() as usize).clamp(1, steps)
        }
        _ => 0,
    };
    let levels: Vec<usize> =
        std::iter::repeat_n(0, empty).chain(shown.iter().map(|v| level(*v))).collect();
    (0..height)
        .rev()
        .map(|row| {
            let cell = |pair: &[usize]| {
                let mut dots = BLANK;
                for (column, level) in DOTS.iter().zip(pair) {
                    let lit = level.saturating_sub(row * 4).min(4);
                    dots |= column.iter().take(lit).sum::<u32>();
                }
                char::from_u32(dots).unwrap_or(' ')
            };
            levels.chunks(2).map(cell).collect()
        })
        .collect()
}

/// As many values as `width` columns show.
fn newest(values: &[Option<f64>], width: usize) -> &[Option<f64>] {
    values.split_at(values.len().saturating_sub(width * 2)).1
}

/// One row, scaled by the largest of the values that are shown.
pub(super) fn spark(values: &[Option<f64>], width: usize) -> String {
    let shown = newest(values, width);
    let max = shown.iter().flatten().fold(0.0, |a: f64, b| a.max(*b));
    rows(values, width, 1, max).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fill_cells_from_below() {
        let some = |values: &[f64]| values.iter().map(|v| Some(*v)).collect::<Vec<_>>();
        assert_eq!(rows(&some(&[0.0, 1.0]), 1, 1, 1.0), ["⢸"]);
        assert_eq!(rows(&some(&[1.0, 0.5]), 1, 1, 1.0), ["⣧"]);
        assert_eq!(rows(&some(&[1.0, 0.5]), 1, 2, 1.0), ["⡇", "⣿"]);
        assert_eq!(rows(&some(&[0.001]), 2, 1, 1.0), ["⠀⢀"], "little is not nothing");
        assert_eq!(rows(&[None, Some(5.0)], 1, 1, 1.0), ["⢸"], "more than all is all");
        assert_eq!(spark(&some(&[9.0, 0.01, 0.02]), 1), "⣼", "scaled by what is shown");
        assert_eq!(spark(&[], 3), "⠀⠀⠀");
    }
}
