//! Whom of the ranked endpoints a build takes, by what they have to do and how they fared. Pure.

use std::num::NonZeroUsize;

use super::slots::Load;

/// How many builds may wait at an endpoint for each that it does at once, before the next one in the ranking is better.
///
/// FIXME
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

/// How an endpoint fared lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known against it.
    Well,
    /// It could not be reached, or was lost: it is tried when there is no other.
    Suspect,
}

/// The place in `ranked`, the best first, of whom a build takes: the first whose queue is not longer than
/// `queued_per_slot_max` builds for each that it does at once, else the one with the shortest queue. Suspects count only
/// where there is nobody else. Nothing if there is nobody at all.
pub fn choose(ranked: &[Candidate], queued_per_slot_max: usize) -> Option<usize> {
    let standing = match ranked.iter().any(|candidate| candidate.standing == Standing::Well) {
        true => Standing::Well,
        false => Standing::Suspect,
    };
    let considered = || ranked.iter().enumerate().filter(|(_, candidate)| candidate.standing == standing);
    let has_room = |candidate: &Candidate| {
        let room = candidate.bound.get().saturating_mul(queued_per_slot_max.saturating_add(1));
        candidate.load.total() < room
    };
    let preferred = considered().find(|(_, candidate)| has_room(candidate));
    // Of several with queues of one length the first.
    let shortest = || considered().min_by(|(_, left), (_, right)| left.fullness().total_cmp(&right.fullness()));
    preferred.or_else(shortest).map(|(place, _)| place)
}

impl Candidate {
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
        assert_eq!(choose(&[candidate(0, 0), candidate(0, 0)], 1), Some(0));
        assert_eq!(choose(&[candidate(2, 1), candidate(0, 0)], 1), Some(0));
        assert_eq!(choose(&[candidate(2, 2), candidate(0, 0)], 1), Some(1));
        assert_eq!(choose(&[candidate(2, 0), candidate(0, 0)], 0), Some(1));
        assert_eq!(choose(&[candidate(2, 2), candidate(2, 2), candidate(1, 0)], 1), Some(2));
    }

    #[test]
    fn where_all_queues_are_long_the_shortest_is_taken() {
        assert_eq!(choose(&[candidate(2, 7), candidate(2, 5), candidate(2, 5)], 1), Some(1));
        let large = Candidate { bound: NonZeroUsize::new(8).unwrap(), ..candidate(8, 12) };
        assert_eq!(choose(&[candidate(2, 4), large], 1), Some(1));
    }

    #[test]
    fn suspects_are_taken_when_there_is_nobody_else() {
        let suspect = Candidate { standing: Standing::Suspect, ..candidate(0, 0) };
        assert_eq!(choose(&[suspect, candidate(2, 9)], 1), Some(1));
        assert_eq!(choose(&[suspect, suspect], 1), Some(0));
        assert_eq!(choose(&[], 1), None);
    }
}
