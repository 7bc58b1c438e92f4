//! What the command line and the configuration file ask for, in this order of precedence.

use std::time::Duration;

use super::Args;
use super::columns::domain_column;
use super::config::Config;
use super::table::Order;
use crate::output::paint::When;

/// How the screen is set up; keys change it.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) interval: Duration,
    pub(super) stale: Duration,
    pub(super) order: Order,
    pub(super) color: When,
    pub(super) filter: String,
    /// Columns of domains that were chosen; else those that fit.
    pub(super) columns: Option<Vec<&'static str>>,
}

const INTERVAL: Duration = Duration::from_secs(1);
const STALE: Duration = Duration::from_secs(10);
const SORT: &str = "running";

impl Settings {
    pub(super) fn new(args: &Args, config: &Config) -> Self {
        let column = args.sort.as_deref().or(config.sort.as_deref()).and_then(domain_column);
        let named = |names: &Vec<String>| names.iter().filter_map(|n| domain_column(n)).collect();
        Self {
            interval: args.interval.or(config.interval()).unwrap_or(INTERVAL),
            stale: args.stale.or(config.stale()).unwrap_or(STALE),
            order: Order {
                column: column.unwrap_or(SORT),
                reverse: args.reverse || (args.sort.is_none() && config.reverse.unwrap_or(false)),
            },
            color: args.color.or(config.color).unwrap_or_default(),
            filter: args.filter.clone().unwrap_or_default(),
            columns: args.columns.as_ref().or(config.columns.as_ref()).map(named),
        }
    }

    /// What is saved. Not the filter: a screen that starts without domains would be a riddle.
    pub(super) fn config(&self) -> Config {
        let seconds = |time: Duration, usual| (time != usual).then_some(time.as_secs_f64());
        Config {
            interval: seconds(self.interval, INTERVAL),
            stale: seconds(self.stale, STALE),
            sort: Some(self.order.column.to_owned()),
            reverse: self.order.reverse.then_some(true),
            color: (self.color != When::Auto).then_some(self.color),
            columns: self
                .columns
                .as_ref()
                .map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        }
    }
}
