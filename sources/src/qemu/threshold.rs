//! State machine of write thresholds: which are armed, which have fired. Pure: its inputs are what
//! was sent and what came, in order; its outputs are what to report.
//!
//! QEMU's threshold is one-shot and belongs to a block node. When it fires QEMU emits
//! BLOCK_WRITE_THRESHOLD first and sets the threshold to 0 then, so on one connection the event
//! always comes before a reply that shows the 0. Every event is one firing. A firing whose event
//! went to nobody, because there was no connection, shows afterwards: armed here, 0 there.

use std::collections::BTreeMap;

/// One firing, to be reported once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firing {
    /// The threshold that was exceeded, in bytes.
    pub threshold: u64,
    /// By how much the write went past it, in bytes; `None` if QEMU's event was missed.
    pub excess: Option<u64>,
    /// Whether it was concluded from the level after the event was missed.
    pub reconciled: bool,
}

/// What became of a request to set a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOutcome {
    /// It was set (and may have fired since).
    Set,
    /// The connection broke before QEMU answered, and the node's threshold is 0 now: either the
    /// request never arrived, or it did and fired.
    Unknown,
}

/// The thresholds of one VM, by node name.
#[derive(Debug, Default)]
pub struct Thresholds {
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug, Default)]
struct Node {
    /// What QEMU is known to have armed.
    armed: Option<u64>,
    /// What was asked for and not answered.
    pending: Option<Pending>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    threshold: u64,
    fired: bool,
    /// The connection broke meanwhile.
    lost: bool,
}

impl Thresholds {
    /// How many nodes are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no node is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What is armed on the node.
    #[must_use]
    pub fn armed(&self, node: &str) -> Option<u64> {
        self.nodes.get(node)?.armed
    }

    /// Whether a request for the node is not answered.
    #[must_use]
    pub fn is_pending(&self, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|n| n.pending.is_some())
    }

    /// Nodes with a request whose answer was lost.
    pub fn lost(&self) -> impl Iterator<Item = &str> {
        let lost = |n: &Node| n.pending.is_some_and(|p| p.lost);
        self.nodes.iter().filter(move |(_, n)| lost(n)).map(|(name, _)| name.as_str())
    }

    /// Whether the node must be disarmed before this threshold is set: the same threshold set
    /// over itself would leave open which of the two an event speaks of.
    #[must_use]
    pub fn must_disarm_first(&self, node: &str, threshold: u64) -> bool {
        threshold > 0 && self.armed(node) == Some(threshold)
    }

    /// A request to set `threshold` (0 disarms) was sent.
    pub fn sent(&mut self, node: &str, threshold: u64) {
        let node = self.nodes.entry(node.to_owned()).or_default();
        node.pending = Some(Pending { threshold, fired: false, lost: false });
    }

    /// QEMU answered the request: it is set, or (`false`) refused.
    pub fn answered(&mut self, node: &str, accepted: bool) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        let Some(pending) = node.pending.take() else { return };
        if accepted {
            let armed = pending.threshold > 0 && !pending.fired;
            node.armed = armed.then_some(pending.threshold);
        }
    }

    /// QEMU says that a threshold fired.
    pub fn event(&mut self, node: &str, threshold: u64, excess: Option<u64>) -> Firing {
        let node = self.nodes.entry(node.to_owned()).or_default();
        match &mut node.pending {
            // The old one if it was this, else the one whose answer is still to come.
            Some(_) if node.armed == Some(threshold) => node.armed = None,
            Some(pending) if pending.threshold == threshold => pending.fired = true,
            _ => node.armed = None,
        }
        Firing { threshold, excess, reconciled: false }
    }

    /// The connection broke: requests without an answer are decided by the next level.
    pub fn cut(&mut self) {
        for pending in self.nodes.values_mut().filter_map(|n| n.pending.as_mut()) {
            pending.lost = true;
        }
    }

    /// QEMU says what the node's threshold is. Gives a firing that was missed, and what became of
    /// a request whose answer was lost.
    pub fn level(&mut self, node: &str, level: u64) -> (Option<Firing>, Option<SetOutcome>) {
        let node = self.nodes.entry(node.to_owned()).or_default();
        let mut outcome = None;
        match node.pending {
            // The level is older than the request.
            Some(pending) if !pending.lost => return (None, None),
            Some(pending) => {
                node.pending = None;
                let set = pending.fired || level == pending.threshold;
                outcome = Some(if set { SetOutcome::Set } else { SetOutcome::Unknown });
                if set && !pending.fired {
                    // It replaced, or disarmed, what was armed before.
                    node.armed = None;
                }
            }
            None => {}
        }
        let firing = match node.armed {
            Some(threshold) if level == 0 => {
                Some(Firing { threshold, excess: None, reconciled: true })
            }
            _ => None,
        };
        node.armed = (level > 0).then_some(level);
        (firing, outcome)
    }

    /// What is armed, and what is about to be, by node: a threshold of 0 where nothing is armed, and what
    /// a request that is not answered sets.
    pub fn all_at_stake(&self) -> impl Iterator<Item = (&str, u64, Option<u64>)> {
        self.nodes.iter().filter_map(|(name, node)| {
            let intended = node.pending.map(|pending| pending.threshold);
            let is_at_stake = node.armed.is_some() || intended.is_some_and(|intended| intended > 0);
            is_at_stake.then_some((name.as_str(), node.armed.unwrap_or(0), intended))
        })
    }

    /// It was armed when this VM was last observed, by whatever daemon.
    pub fn recall(&mut self, node: &str, threshold: u64) {
        self.nodes.entry(node.to_owned()).or_default().armed = Some(threshold);
    }

    /// Forgets nodes that were removed, and gives those that had a threshold.
    pub fn retain(&mut self, exists: impl Fn(&str) -> bool) -> Vec<(String, u64)> {
        let mut lost = Vec::new();
        self.nodes.retain(|name, node| {
            let stays = node.pending.is_some() || exists(name);
            if !stays {
                lost.extend(node.armed.map(|threshold| (name.clone(), threshold)));
            }
            stays
        });
        lost
    }
}

#[cfg(test)]
mod tests;
