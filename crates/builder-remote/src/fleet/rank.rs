//! Rendezvous hashing with weights: the order in which a key looks for its endpoints. Pure.
//!
//! Each member draws a number from the hash of the key and its own name, and the highest comes first. So all machines agree
//! without talking to each other, a member that goes takes only its own keys along, and they are spread over all the others.
//! (D. Thaler, C. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998; weights by the logarithmic method
//! of J. Schindelhauer and G. Schomaker, "Weighted Distributed Hash Tables", 2005.)

use std::cmp::Ordering;

use imagespec_core::digest::Digest;

/// What takes part, by its name and how much of the keys it is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// What tells it from the others, the same on every machine: its address.
    pub name: &'a str,
    /// Its share: one with 2 has twice the keys of one with 1. One with 0 comes after all that have more.
    pub weight: u32,
}

/// The places of `members` in the order in which `key` looks for them, the best first. The order of `members` itself does
/// not matter.
pub fn rank(key: &Digest, members: &[Member<'_>]) -> Vec<usize> {
    let mut scored: Vec<(f64, usize)> =
        members.iter().enumerate().map(|(place, member)| (score(key, member), place)).collect();
    scored.sort_by(|(left, left_place), (right, right_place)| {
        let by_name = || members[*left_place].name.cmp(members[*right_place].name);
        right.partial_cmp(left).unwrap_or(Ordering::Equal).then_with(by_name)
    });
    scored.into_iter().map(|(_, place)| place).collect()
}

/// `weight / -ln(draw)`: of members with these scores, each is the highest with a probability in proportion to its weight.
fn score(key: &Digest, member: &Member<'_>) -> f64 {
    let drawn = Digest::of(&[key.as_bytes().as_slice(), member.name.as_bytes()].concat());
    let (head, _) = drawn.as_bytes().split_first_chunk::<8>().expect("a digest has 32 bytes");
    // As many bits as a fraction has, and never 0 or 1: the logarithms of both are of no use.
    let draw = ((u64::from_be_bytes(*head) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(member.weight) / -draw.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: usize = 10_000;

    fn key(number: usize) -> Digest {
        Digest::of(format!("key {number}").as_bytes())
    }

    fn first<'a>(number: usize, members: &[Member<'a>]) -> &'a str {
        members[rank(&key(number), members)[0]].name
    }

    const FLEET: [Member<'static>; 5] = [
        Member { name: "tcp://a:1234", weight: 1 },
        Member { name: "tcp://b:1234", weight: 1 },
        Member { name: "tcp://c:1234", weight: 2 },
        Member { name: "tcp://d:1234", weight: 3 },
        Member { name: "tcp://e:1234", weight: 1 },
    ];

    #[test]
    fn every_machine_ranks_alike() {
        // Another order here would send all builds of a fleet to endpoints that do not know them.
        assert_eq!(rank(&key(0), &FLEET), [3, 2, 1, 0, 4]);
        assert_eq!(rank(&key(1), &FLEET), [2, 0, 1, 4, 3]);
        assert_eq!(rank(&key(2), &[]), Vec::<usize>::new());
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let mut others = FLEET;
        others.reverse();
        others.swap(1, 3);
        for number in 0..1000 {
            let names = |members: &[Member<'static>]| -> Vec<_> {
                rank(&key(number), members).into_iter().map(|place| members[place].name).collect()
            };
            assert_eq!(names(&FLEET), names(&others));
        }
    }

    #[test]
    fn shares_follow_weights() {
        let total: u32 = FLEET.iter().map(|member| member.weight).sum();
        let chi_square: f64 = FLEET
            .iter()
            .map(|member| {
                let had = (0..KEYS).filter(|number| first(*number, &FLEET) == member.name).count() as f64;
                let due = KEYS as f64 * f64::from(member.weight) / f64::from(total);
                (had - due).powi(2) / due
            })
            .sum();
        // Four degrees of freedom: one in a thousand hashes as good as chance exceeds 18.47.
        assert!(chi_square < 18.47, "{chi_square}");
    }

    #[test]
    fn only_the_keys_of_a_lost_member_move_and_they_go_to_all_others() {
        let lost = FLEET[2].name;
        let rest: Vec<_> = FLEET.into_iter().filter(|member| member.name != lost).collect();
        let mut heirs = std::collections::BTreeSet::new();
        for number in 0..KEYS {
            let (before, after) = (first(number, &FLEET), first(number, &rest));
            if before == lost {
                let order = rank(&key(number), &FLEET);
                assert_eq!(after, FLEET[order[1]].name, "the second is who takes over");
                heirs.insert(after);
            } else {
                assert_eq!(before, after);
            }
        }
        assert_eq!(heirs.len(), rest.len());
    }

    #[test]
    fn a_member_with_more_weight_takes_keys_and_gives_none() {
        let mut more = FLEET;
        more[0].weight = 4;
        for number in 0..KEYS {
            let (before, after) = (first(number, &FLEET), first(number, &more));
            assert!(before == after || after == more[0].name);
        }
    }

    #[test]
    fn a_member_without_weight_is_the_last() {
        let mut fleet = FLEET;
        fleet[3].weight = 0;
        assert!((0..1000).all(|number| rank(&key(number), &fleet)[4] == 3));
    }
}
