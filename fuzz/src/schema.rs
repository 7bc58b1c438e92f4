//! Schema parsing: whatever parses keeps every promise of [`Schema`].

use std::fmt::Write;
use std::sync::OnceLock;

use domstat_layout::Schema;
use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::schema::{FieldKind, MAX_LEN, MAX_NAME_LEN, MAX_STATES};

/// Whether this run is the fuzzer's own test: a fault in a schema that is legal and no seed, which it
/// must find.
fn planted() -> bool {
    static PLANTED: OnceLock<bool> = OnceLock::new();
    *PLANTED.get_or_init(|| std::env::var_os("DOMSTAT_FUZZ_PLANTED").is_some())
}

/// The target.
///
/// # Panics
/// When something does not hold.
pub fn target(data: &[u8]) {
    let schema = match Schema::parse(data) {
        Ok(schema) => schema,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(error.offset <= data.len(), "{error}");
            return;
        }
    };
    assert!(data.len() <= MAX_LEN);
    let mut shown = String::new();
    let is_name = |name: &str| (1..=MAX_NAME_LEN).contains(&name.len());
    let records: Vec<_> = schema.records().collect();
    assert!(records.is_sorted_by(|a, b| a.kind < b.kind));
    for record in &records {
        assert!(is_name(record.name));
        assert!(record.header <= record.size && record.active + 8 <= record.header);
        for len in [0, data.len(), usize::MAX] {
            if record.fits(len) {
                for index in [0, record.nr / 2, record.nr - 1] {
                    let at = record.offset(index).expect("there is a last record");
                    assert!(at as u128 + record.size as u128 <= len as u128, "{record:?}");
                }
            }
        }
        assert_eq!(record.offset(record.nr), None);
    }
    for group in schema.groups() {
        assert!(is_name(group.name) && group.bit < 64);
        let record = records.iter().find(|r| r.kind == group.record).expect("its record is listed");
        assert!(group.offset >= record.header && group.end() <= record.size, "{group:?}");
        let mut end = group.offset + GROUP_HEADER_LEN;
        let mut nr = 0;
        for field in schema.fields(&group) {
            assert!(is_name(field.name) && field.offset >= end, "{field:?}");
            end = field.offset + field.width;
            assert!(end <= group.end() && field.width > 0 && field.width.is_multiple_of(8));
            assert!(!planted() || field.shape.exponent <= 0, "the planted fault");
            let states = field.states().count();
            if field.shape.kind == FieldKind::STATE {
                assert_eq!(states, field.shape.nr as usize);
                assert!(states <= MAX_STATES as usize);
                assert!(field.state(u64::from(field.shape.nr)).is_none());
            }
            shown.clear();
            let _ = write!(shown, "{} {:?}", field.shape.scaled(), field.shape);
            nr += 1;
        }
        assert!(nr > 0, "{group:?}");
    }
    let groups: Vec<_> = schema.groups().collect();
    for pair in groups.windows(2) {
        let [a, b] = pair else { continue };
        assert!(a.record < b.record || (a.record == b.record && a.end() <= b.offset), "{pair:?}");
    }
}
