//! A domain's migration away from this host, from the statistics of its job.
//!
//! libvirt has them while the migration is under way. One that ends while the domain stays here has
//! failed or was canceled, of which libvirt does not say which.

use domstat_layout::latest::Migration;
use domstat_layout::{Group, Ns, Word};
use virt_sys as sys;

use super::params::{Item, number};
use super::sys::Param;

const NONE: u64 = 0;
const ACTIVE: u64 = 2;
const COMPLETED: u64 = 7;
const FAILED: u64 = 8;
const CANCELED: u64 = 9;

/// The last migration, from one answer to the next.
#[derive(Debug)]
pub(super) struct MigrationState {
    last: Migration,
    /// Migrations that were begun.
    count: u64,
}

impl Default for MigrationState {
    fn default() -> Self {
        Self { last: Migration { state: Word::new(NONE), ..Migration::NOT_PRODUCED }, count: 0 }
    }
}

impl MigrationState {
    /// Whether one is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.last.state.value() == Some(ACTIVE)
    }

    /// Takes a job of the domain, of virDomainJobType `kind`, as of `asked`.
    pub(super) fn take(&mut self, kind: u32, params: &[(String, Param)], asked: Ns) -> Migration {
        let all: Item<'_> = params.iter().map(|(name, param)| (name.as_str(), param)).collect();
        let operation = number(&all, "operation");
        let is_migration = operation == Some(sys::VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT.into());
        let state = match kind {
            sys::VIR_DOMAIN_JOB_BOUNDED | sys::VIR_DOMAIN_JOB_UNBOUNDED if is_migration => ACTIVE,
            sys::VIR_DOMAIN_JOB_COMPLETED if is_migration => COMPLETED,
            sys::VIR_DOMAIN_JOB_FAILED if is_migration => FAILED,
            sys::VIR_DOMAIN_JOB_CANCELLED if is_migration => CANCELED,
            // No job, or another one: a migration that was under way did not take the domain away.
            _ if self.is_under_way() => FAILED,
            _ => return self.group(),
        };
        if state == ACTIVE && !self.is_under_way() {
            self.count = self.count.saturating_add(1);
            self.last = Migration::NOT_PRODUCED;
        }
        if is_migration {
            let ms = |key: &str| number(&all, key).and_then(|ms| ms.checked_mul(1_000_000));
            let total = ms("time_elapsed");
            let started = total.map(|total| asked.0.saturating_sub(total));
            let pages = number(&all, "memory_dirty_rate");
            let page = number(&all, "memory_page_size");
            self.last = Migration {
                state: Word::new(state),
                started_ns: self.last.started_ns.value().or(started).into(),
                total_ns: total.into(),
                setup_ns: ms("setup_time").into(),
                downtime_ns: ms("downtime").into(),
                transferred_bytes: number(&all, "memory_processed").into(),
                remaining_bytes: number(&all, "memory_remaining").into(),
                dirty_bytes: pages.zip(page).and_then(|(n, len)| n.checked_mul(len)).into(),
                iterations: number(&all, "memory_iteration").into(),
                migrations: Word::NOT_PRODUCED,
            };
        }
        self.last.state = Word::new(state);
        self.group()
    }

    fn group(&self) -> Migration {
        Migration { migrations: Word::new(self.count), ..self.last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(operation: i64) -> Vec<(String, Param)> {
        let number = |name: &str, n| (name.to_owned(), Param::Unsigned(n));
        vec![
            ("operation".to_owned(), Param::Signed(operation)),
            number("time_elapsed", 5),
            number("memory_processed", 10),
            number("memory_remaining", 20),
            number("memory_dirty_rate", 3),
            number("memory_page_size", 4096),
            number("memory_iteration", 2),
        ]
    }

    #[test]
    fn a_migration_is_counted_once_and_has_failed_if_the_domain_stays() {
        let mut state = MigrationState::default();
        let none = state.take(sys::VIR_DOMAIN_JOB_NONE, &[], Ns(1));
        assert_eq!((none.state.value(), none.migrations.value()), (Some(NONE), Some(0)));
        assert_eq!(none.total_ns, Word::NOT_PRODUCED);
        for _ in 0..2 {
            let seen = state.take(sys::VIR_DOMAIN_JOB_UNBOUNDED, &job(5), Ns(105_000_000));
            assert_eq!((seen.state.value(), seen.migrations.value()), (Some(ACTIVE), Some(1)));
            assert_eq!(seen.started_ns.value(), Some(100_000_000));
            assert_eq!(seen.dirty_bytes.value(), Some(12288));
            assert_eq!(seen.setup_ns, Word::NOT_PRODUCED);
        }
        assert!(state.is_under_way());
        for _ in 0..2 {
            let seen = state.take(sys::VIR_DOMAIN_JOB_NONE, &[], Ns(200_000_000));
            assert_eq!((seen.state.value(), seen.migrations.value()), (Some(FAILED), Some(1)));
            assert_eq!(seen.transferred_bytes.value(), Some(10), "as it ended");
        }
        let again = state.take(sys::VIR_DOMAIN_JOB_UNBOUNDED, &job(5), Ns(305_000_000));
        assert_eq!(
            (again.migrations.value(), again.started_ns.value()),
            (Some(2), Some(300_000_000))
        );
    }

    #[test]
    fn another_job_of_the_domain_is_no_migration() {
        let mut state = MigrationState::default();
        // A save.
        let seen = state.take(sys::VIR_DOMAIN_JOB_UNBOUNDED, &job(2), Ns(1));
        assert_eq!((seen.state.value(), seen.migrations.value()), (Some(NONE), Some(0)));
        assert_eq!(seen.total_ns, Word::NOT_PRODUCED);
    }
}
