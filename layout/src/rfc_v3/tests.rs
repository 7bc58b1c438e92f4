use super::*;

const GOOD: Header = Header { magic: MAGIC, offset: 128, size: 16, stride: 128 };

fn rule(header: Header, len: usize) -> Option<&'static str> {
    match Geometry::validate(&header, len) {
        Err(GeometryError::Word { rule, .. }) => Some(rule),
        _ => None,
    }
}

#[test]
fn bounds_are_exact_at_both_ends() {
    let nr = |len| Geometry::validate(&GOOD, len).unwrap().nr_records();
    assert_eq!(nr(4096), 31);
    assert_eq!(nr(128 + 16), 1, "the last record needs no gap behind it");
    assert_eq!(nr(256 + 15), 1);
    assert_eq!(nr(256 + 16), 2);
    assert_eq!(rule(GOOD, 128 + 15), Some("R05"));
    assert_eq!(rule(GOOD, 16), Some("R05"));
    assert_eq!(rule(Header { offset: 8, ..GOOD }, 4096), Some("R02"));
    assert_eq!(rule(Header { offset: !7, ..GOOD }, 4096), Some("R05"));
    assert_eq!(rule(Header { size: 0, stride: 0, ..GOOD }, 4096), Some("R03"));
    assert_eq!(rule(Header { size: 136, ..GOOD }, 4096), Some("R04"));
    assert_eq!(rule(Header { size: 4096, stride: 4096, ..GOOD }, 4096), Some("R05"));
    assert_eq!(rule(Header { offset: 132, ..GOOD }, 4096), Some("R06"));
    assert_eq!(rule(Header { stride: 132, ..GOOD }, 4096), Some("R06"));
    assert_eq!(rule(Header { size: 20, ..GOOD }, 4096), Some("R06"));
    let swapped = Header { magic: MAGIC.swap_bytes(), ..GOOD };
    assert_eq!(Geometry::validate(&swapped, 4096), Err(GeometryError::WrongEndian));
    assert!(swapped.is_rfc_v3());
    let other = Header { magic: 1, ..GOOD };
    assert_eq!(Geometry::validate(&other, 4096), Err(GeometryError::WrongMagic { found: 1 }));
    let short = GeometryError::TooShort { mapped_len: 15 };
    assert_eq!(Geometry::validate(&GOOD, 15), Err(short));
    let dense = Header { size: 8, stride: 8, ..GOOD };
    let all = Geometry::validate(&dense, usize::MAX).unwrap();
    assert_eq!(all.nr_records(), MAX_RECORDS);
}

#[test]
fn a_scaled_stride_is_recognized() {
    let geometry = Geometry::validate(&GOOD, 4096).unwrap();
    assert!(is_scaled(&geometry, [0, 16]));
    assert!(!is_scaled(&geometry, [0]));
    assert!(!is_scaled(&geometry, [0, 1, 16]));
    assert!(!is_scaled(&geometry, []));
}
