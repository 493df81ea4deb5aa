//! A place in the queue of the endpoint that a plan is best built by, as things are on this machine.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use imagespec_core::digest::Digest;

use super::choice::{Candidate, QUEUED_PER_SLOT_MAX, Standing, choose};
use super::health::Health;
use super::rank::{Member, rank};
use super::slots::{Door, Slots, Ticket};

/// An endpoint that could build a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// Its address, without what is said about it: the same text on every machine.
    pub address: &'a str,
    /// Its share of the plans, as [`Member::weight`].
    pub weight: u32,
    /// How many builds of this machine it does at once.
    pub in_flight: NonZeroUsize,
}

/// Where in the cache folder things about an endpoint are remembered.
pub fn folder(cache_dir: &Path, address: &str) -> PathBuf {
    fleet_folder(cache_dir).join(&Digest::of(address.as_bytes()).to_hex()[..16])
}

/// Chooses among `endpoints` the one that a plan with the affinity `key` is best built by at the time `now`, in seconds since
/// 1970, and takes a place in its queue. Nothing if there are no endpoints.
///
/// `running` is asked how many builds an endpoint does now, whoever asked for them, by its place in `endpoints`; where it does not
/// know, those of this machine count alone. It is asked of one endpoint after the other until one has room, and must answer soon:
/// builds that begin at once choose one after the other, so that each sees where those before it went.
///
/// # Errors
/// When the files in the cache folder cannot be made, read or locked.
pub fn queue(
    cache_dir: &Path,
    key: &Digest,
    endpoints: &[Endpoint<'_>],
    now: u64,
    running: &mut dyn FnMut(usize) -> Option<usize>,
) -> io::Result<Option<(usize, Ticket)>> {
    let members: Vec<Member<'_>> =
        endpoints.iter().map(|endpoint| Member { name: endpoint.address, weight: endpoint.weight }).collect();
    let order = rank(key, &members);
    let slots = |place: usize| {
        let Endpoint { address, in_flight, .. } = endpoints[place];
        Slots::new(&folder(cache_dir, address), in_flight)
    };
    let mut candidate = |place: usize| {
        let standing = Health::read(&folder(cache_dir, endpoints[place].address)).standing(now);
        let mut load = slots(place).load()?;
        // Who is suspected would keep us waiting.
        if standing == Standing::Well {
            load.running = load.running.max(running(place).unwrap_or_default());
        }
        Ok(Candidate { standing, load, bound: endpoints[place].in_flight })
    };
    let _door = Door::enter(&fleet_folder(cache_dir))?;
    let mut failure = None;
    let candidates = order.iter().map_while(|place| candidate(*place).map_err(|error| failure = Some(error)).ok());
    let chosen = choose(candidates, QUEUED_PER_SLOT_MAX);
    match (failure, chosen) {
        (Some(error), _) => Err(error),
        (None, Some(chosen)) => Ok(Some((order[chosen], slots(order[chosen]).queue()?))),
        (None, None) => Ok(None),
    }
}

fn fleet_folder(cache_dir: &Path) -> PathBuf {
    cache_dir.join("builders/remote")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn fleet() -> [Endpoint<'static>; 3] {
        ["unix:///a.sock", "tcp://b:1234", "tcp://c:1234"].map(|address| Endpoint {
            address,
            weight: 1,
            in_flight: NonZeroUsize::new(2).unwrap(),
        })
    }

    /// How many builds an endpoint takes while there are others.
    const ROOM: usize = 2 * (QUEUED_PER_SLOT_MAX + 1);

    fn key() -> Digest {
        Digest::of(b"a plan")
    }

    #[test]
    fn one_plan_finds_one_endpoint_until_its_queue_is_long() {
        let cache = tempfile::tempdir().unwrap();
        let mut tickets = Vec::new();
        let mut chosen = Vec::new();
        for _ in 0..3 * ROOM {
            let (place, ticket) = queue(cache.path(), &key(), &fleet(), NOW, &mut |_| None).unwrap().unwrap();
            chosen.push(place);
            tickets.push(ticket);
        }
        let order = rank(&key(), &fleet().map(|endpoint| Member { name: endpoint.address, weight: 1 }));
        let wanted: Vec<usize> = (0..3 * ROOM).map(|number| order[number / ROOM]).collect();
        assert_eq!(chosen, wanted);
        drop(tickets);
        assert_eq!(queue(cache.path(), &key(), &fleet(), NOW, &mut |_| None).unwrap().unwrap().0, order[0]);
    }

    #[test]
    fn builds_that_begin_at_once_see_each_other() {
        let cache = tempfile::tempdir().unwrap();
        let path = cache.path();
        let tickets: Vec<(usize, Ticket)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3 * ROOM)
                .map(|_| scope.spawn(|| queue(path, &key(), &fleet(), NOW, &mut |_| None).unwrap().unwrap()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut counts = [0; 3];
        for (place, _) in &tickets {
            counts[*place] += 1;
        }
        assert_eq!(counts, [ROOM; 3]);
    }

    #[test]
    fn what_others_have_an_endpoint_do_counts_and_suspects_are_not_asked() {
        let cache = tempfile::tempdir().unwrap();
        let order = rank(&key(), &fleet().map(|endpoint| Member { name: endpoint.address, weight: 1 }));
        let mut asked = Vec::new();
        let mut at = |now, loads: [usize; 3]| {
            let mut running = |place: usize| {
                asked.push(place);
                Some(loads[order.iter().position(|one| *one == place).unwrap()])
            };
            queue(cache.path(), &key(), &fleet(), now, &mut running).unwrap().unwrap().0
        };
        assert_eq!(at(NOW, [ROOM, 0, 0]), order[1]);
        assert_eq!(at(NOW, [ROOM - 1, 0, 0]), order[0]);
        Health::note_failure(&folder(cache.path(), fleet()[order[0]].address), NOW).unwrap();
        assert_eq!(at(NOW, [0, 0, 0]), order[1]);
        assert_eq!(asked, [order[0], order[1], order[0], order[1]]);
    }

    #[test]
    fn an_endpoint_that_failed_is_passed_over_for_a_while() {
        let cache = tempfile::tempdir().unwrap();
        let at = |now| queue(cache.path(), &key(), &fleet(), now, &mut |_| None).unwrap().unwrap().0;
        let best = at(NOW);
        Health::note_failure(&folder(cache.path(), fleet()[best].address), NOW).unwrap();
        assert_ne!(at(NOW + 1), best);
        assert_eq!(at(NOW + 60), best);
        assert!(queue(cache.path(), &key(), &[], NOW, &mut |_| None).unwrap().is_none());
    }
}
