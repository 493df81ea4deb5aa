//! Whom of the ranked endpoints a build takes, by what they have to do and how they fared. Pure.

use std::num::NonZeroUsize;

use super::slots::Load;

/// How many builds may wait at an endpoint for each that it does at once, before the next one in the ranking is better.
///
/// To wait for somebody who has everything is better than to begin anew elsewhere, as long as the queue is short: most builds
/// in it are short themselves, since they find what they need. In the simulation (benches/fleet, docs/remote.md) one is best
/// or nearly so for fleets of all sizes. With none, builds of a busy fleet spread over endpoints that know nothing of them;
/// two are better only for a fleet that is overloaded, and with more, builds wait for minutes beside endpoints that are idle.
pub const QUEUED_PER_SLOT_MAX: usize = 1;

/// What is known of an endpoint when a build looks for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// How it fared.
    pub standing: Standing,
    /// What it has to do.
    pub load: Load,
    /// How many builds it does at once.
    pub bound: NonZeroUsize,
}

/// How an endpoint fared lately, the better first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing is known against it.
    Well,
    /// It could not be reached, or was lost: it is tried when there is no other.
    Suspect,
}

/// The place in `ranked`, the best first, of whom a build takes: the first whose queue is shorter than `queued_per_slot_max`
/// builds for each that it does at once, else the one with the shortest queue. Suspects count only where there is nobody
/// else. Nothing if there is nobody at all.
///
/// Those behind the one that is taken are not asked for.
pub fn choose(ranked: impl IntoIterator<Item = Candidate>, queued_per_slot_max: usize) -> Option<usize> {
    let mut passed = Vec::new();
    for candidate in ranked {
        if candidate.standing == Standing::Well && candidate.has_room(queued_per_slot_max) {
            return Some(passed.len());
        }
        passed.push(candidate);
    }
    let worse = |left: &Candidate, right: &Candidate| {
        let by_standing = left.standing.cmp(&right.standing);
        by_standing.then_with(|| left.fullness().total_cmp(&right.fullness()))
    };
    // Of several that are alike the first.
    passed.iter().enumerate().min_by(|(_, left), (_, right)| worse(left, right)).map(|(place, _)| place)
}

impl Candidate {
    fn has_room(&self, queued_per_slot_max: usize) -> bool {
        self.load.total() < self.bound.get().saturating_mul(queued_per_slot_max.saturating_add(1))
    }

    /// Builds for each that it does at once.
    fn fullness(&self) -> f64 {
        self.load.total() as f64 / self.bound.get() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(running: usize, waiting: usize) -> Candidate {
        Candidate { standing: Standing::Well, load: Load { running, waiting }, bound: NonZeroUsize::new(2).unwrap() }
    }

    #[test]
    fn the_best_is_taken_while_its_queue_is_short() {
        assert_eq!(choose([candidate(0, 0), candidate(0, 0)], 1), Some(0));
        assert_eq!(choose([candidate(2, 1), candidate(0, 0)], 1), Some(0));
        assert_eq!(choose([candidate(2, 2), candidate(0, 0)], 1), Some(1));
        assert_eq!(choose([candidate(2, 0), candidate(0, 0)], 0), Some(1));
        assert_eq!(choose([candidate(2, 2), candidate(2, 2), candidate(1, 0)], 1), Some(2));
    }

    #[test]
    fn those_behind_the_one_that_is_taken_are_not_asked() {
        let mut asked = 0;
        let ranked = [candidate(9, 9), candidate(0, 0), candidate(0, 0)].into_iter().inspect(|_| asked += 1);
        assert_eq!((choose(ranked, 1), asked), (Some(1), 2));
    }

    #[test]
    fn where_all_queues_are_long_the_shortest_is_taken() {
        assert_eq!(choose([candidate(2, 7), candidate(2, 5), candidate(2, 5)], 1), Some(1));
        let large = Candidate { bound: NonZeroUsize::new(8).unwrap(), ..candidate(8, 12) };
        assert_eq!(choose([candidate(2, 4), large], 1), Some(1));
    }

    #[test]
    fn suspects_are_taken_when_there_is_nobody_else() {
        let suspect = Candidate { standing: Standing::Suspect, ..candidate(0, 0) };
        assert_eq!(choose([suspect, candidate(2, 9)], 1), Some(1));
        assert_eq!(choose([suspect, suspect], 1), Some(0));
        assert_eq!(choose([], 1), None);
    }
}
