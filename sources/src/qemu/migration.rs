//! A VM's migration away from this host, from query-migrate.

use domstat_layout::latest::Migration;
use domstat_layout::{Group, Ns, Word};
use serde_json::Value;

/// The last migration, from one answer to the next.
#[derive(Debug, Default)]
pub(super) struct MigrationState {
    /// The number of the state that was seen last.
    state: u64,
    started: Option<Ns>,
    /// Migrations that were begun.
    count: u64,
}

/// Nothing was migrated.
const NONE: u64 = 0;
/// States from this one on are ends.
const FIRST_END: u64 = 7;

impl MigrationState {
    /// Whether one is under way.
    pub(super) const fn is_under_way(&self) -> bool {
        self.state != NONE && self.state < FIRST_END
    }

    /// Takes the answer to query-migrate as of `asked`.
    pub(super) fn answer(&mut self, reply: &Value, asked: Ns) -> Migration {
        let ms = |key: &str| reply[key].as_u64().and_then(|ms| ms.checked_mul(1_000_000));
        let state = state_of(reply).unwrap_or(NONE);
        let was_under_way = self.is_under_way();
        if state != NONE && !was_under_way && (state < FIRST_END || self.state == NONE) {
            self.count = self.count.saturating_add(1);
            self.started = None;
        }
        self.state = state;
        let total_ns = ms("total-time");
        if self.is_under_way() && self.started.is_none() {
            self.started = total_ns.map(|total| Ns(asked.0.saturating_sub(total)));
        }
        if state == NONE {
            return Migration {
                state: Word::new(NONE),
                migrations: Word::new(self.count),
                ..Migration::NOT_PRODUCED
            };
        }
        let ram = &reply["ram"];
        let pages = ram["dirty-pages-rate"].as_u64();
        let dirty = pages.and_then(|pages| pages.checked_mul(ram["page-size"].as_u64()?));
        Migration {
            state: Word::new(state),
            started_ns: self.started.map(|started| started.0).into(),
            total_ns: total_ns.into(),
            setup_ns: ms("setup-time").into(),
            downtime_ns: ms("downtime").or_else(|| ms("expected-downtime")).into(),
            transferred_bytes: ram["transferred"].as_u64().into(),
            remaining_bytes: ram["remaining"].as_u64().into(),
            dirty_bytes: dirty.into(),
            iterations: ram["dirty-sync-count"].as_u64().into(),
            migrations: Word::new(self.count),
        }
    }
}

/// The number of QEMU's word for the state. Of a migration to this host QEMU has a word, too, but
/// no times.
fn state_of(reply: &Value) -> Option<u64> {
    let state = match reply["status"].as_str()? {
        "setup" | "wait-unplug" => 1,
        "active" => 2,
        "pre-switchover" | "postcopy-paused" | "postcopy-recover" | "postcopy-recover-setup" => 3,
        "postcopy-active" => 4,
        "device" => 5,
        "cancelling" => 6,
        "completed" => 7,
        "failed" => 8,
        "cancelled" => 9,
        _ => return None,
    };
    let has_times = reply["total-time"].is_u64();
    (has_times || matches!(state, 1 | 6 | 8 | 9)).then_some(state)
}

#[cfg(test)]
mod tests {
    use domstat_layout::latest::MIGRATION_STATE_NAMES;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_migration_is_counted_once_and_begins_when_its_time_began() {
        let mut state = MigrationState::default();
        let none = state.answer(&json!({}), Ns(1));
        assert_eq!((none.state.value(), none.migrations.value()), (Some(0), Some(0)));
        assert_eq!(none.total_ns, Word::NOT_PRODUCED);
        let ram = json!({ "transferred": 10, "remaining": 20, "dirty-pages-rate": 3,
                          "page-size": 4096, "dirty-sync-count": 2 });
        let active = json!({ "status": "active", "total-time": 5, "setup-time": 1,
                             "expected-downtime": 300, "ram": ram });
        let seen = state.answer(&active, Ns(105_000_000));
        assert_eq!((seen.state.value(), seen.started_ns.value()), (Some(2), Some(100_000_000)));
        assert_eq!(
            (seen.dirty_bytes.value(), seen.downtime_ns.value()),
            (Some(12288), Some(300_000_000))
        );
        assert!(state.is_under_way());
        let ended = json!({ "status": "completed", "total-time": 9, "downtime": 2, "ram": ram });
        for _ in 0..2 {
            let seen = state.answer(&ended, Ns(200_000_000));
            assert_eq!((seen.state.value(), seen.migrations.value()), (Some(7), Some(1)));
            assert_eq!(
                (seen.started_ns.value(), seen.downtime_ns.value()),
                (Some(100_000_000), Some(2_000_000))
            );
        }
        let again = state.answer(&json!({ "status": "setup" }), Ns(300_000_000));
        assert_eq!((again.migrations.value(), again.started_ns.value()), (Some(2), None));
    }

    #[test]
    fn states_have_the_numbers_of_the_group_and_arrivals_none() {
        for (word, name) in [
            ("setup", "setup"),
            ("active", "active"),
            ("pre-switchover", "paused"),
            ("postcopy-active", "postcopy"),
            ("device", "device"),
            ("cancelling", "ending"),
            ("completed", "completed"),
            ("failed", "failed"),
            ("cancelled", "canceled"),
        ] {
            let number = state_of(&json!({ "status": word, "total-time": 1 })).unwrap();
            assert_eq!(MIGRATION_STATE_NAMES[usize::try_from(number).unwrap()], name);
        }
        assert_eq!(state_of(&json!({ "status": "completed" })), None, "it arrived here");
        assert_eq!(state_of(&json!({ "status": "active" })), None, "it arrives here");
    }
}
