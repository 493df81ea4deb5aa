//! A place in the queue of the endpoint that a plan is best built by, as things are on this machine.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use imagespec_core::digest::Digest;

use super::choice::{Candidate, QUEUED_PER_SLOT_MAX, choose};
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
/// Builds that begin at once choose one after the other, so that each sees where those before it went. What other machines have
/// an endpoint do is not known here, nor does BuildKit say it: its history leaves out builds that are not to be remembered,
/// as ours, whose output may hold secrets.
///
/// # Errors
/// When the files in the cache folder cannot be made, read or locked.
pub fn queue(
    cache_dir: &Path,
    key: &Digest,
    endpoints: &[Endpoint<'_>],
    now: u64,
) -> io::Result<Option<(usize, Ticket)>> {
    let members: Vec<Member<'_>> =
        endpoints.iter().map(|endpoint| Member { name: endpoint.address, weight: endpoint.weight }).collect();
    let order = rank(key, &members);
    let slots = |place: usize| {
        let Endpoint { address, in_flight, .. } = endpoints[place];
        Slots::new(&folder(cache_dir, address), in_flight)
    };
    let candidate = |place: usize| {
        let standing = Health::read(&folder(cache_dir, endpoints[place].address)).standing(now);
        Ok(Candidate { standing, load: slots(place).load()?, bound: endpoints[place].in_flight })
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
            let (place, ticket) = queue(cache.path(), &key(), &fleet(), NOW).unwrap().unwrap();
            chosen.push(place);
            tickets.push(ticket);
        }
        let order = rank(&key(), &fleet().map(|endpoint| Member { name: endpoint.address, weight: 1 }));
        let wanted: Vec<usize> = (0..3 * ROOM).map(|number| order[number / ROOM]).collect();
        assert_eq!(chosen, wanted);
        drop(tickets);
        assert_eq!(queue(cache.path(), &key(), &fleet(), NOW).unwrap().unwrap().0, order[0]);
    }

    #[test]
    fn builds_that_begin_at_once_see_each_other() {
        let cache = tempfile::tempdir().unwrap();
        let path = cache.path();
        let tickets: Vec<(usize, Ticket)> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..3 * ROOM).map(|_| scope.spawn(|| queue(path, &key(), &fleet(), NOW).unwrap().unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut counts = [0; 3];
        for (place, _) in &tickets {
            counts[*place] += 1;
        }
        assert_eq!(counts, [ROOM; 3]);
    }

    #[test]
    fn an_endpoint_that_failed_is_passed_over_for_a_while() {
        let cache = tempfile::tempdir().unwrap();
        let at = |now| queue(cache.path(), &key(), &fleet(), now).unwrap().unwrap().0;
        let best = at(NOW);
        Health::note_failure(&folder(cache.path(), fleet()[best].address), NOW).unwrap();
        assert_ne!(at(NOW + 1), best);
        assert_eq!(at(NOW + 60), best);
        assert!(queue(cache.path(), &key(), &[], NOW).unwrap().is_none());
    }
}
