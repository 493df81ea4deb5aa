//! Which wheels share a layer. Pure, and stable: adding a package changes one layer, not all.

use imagespec_core::digest::Digest;

/// From this size on, a wheel has a layer of its own.
const OWN_LAYER_BYTES_MIN: u64 = 4 << 20;
/// Layers that small wheels share.
const BUCKETS: u8 = 16;

/// What the assignment depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weighed {
    /// The distribution's normalised name.
    pub name: String,
    /// Length of the wheel in bytes.
    pub size_bytes: u64,
}

/// Groups wheels, or other packages, into at most `layers_max` layers; the numbers are positions in `wheels`. The shared
/// layers come first, then those of one wheel; both by name, and so do the wheels within a layer.
pub fn assign(wheels: &[Weighed], layers_max: usize) -> Vec<Vec<usize>> {
    let mut big: Vec<usize> = (0..wheels.len()).filter(|&i| wheels[i].size_bytes >= OWN_LAYER_BYTES_MIN).collect();
    // Of too many big ones, the smallest share; the name decides between equals.
    big.sort_by(|&left, &right| {
        let key = |i: usize| (std::cmp::Reverse(wheels[i].size_bytes), &wheels[i].name);
        key(left).cmp(&key(right))
    });
    big.truncate(layers_max.saturating_sub(usize::from(BUCKETS)));

    let mut shared = vec![Vec::new(); usize::from(BUCKETS)];
    for (position, wheel) in wheels.iter().enumerate() {
        if !big.contains(&position) {
            shared[usize::from(bucket(&wheel.name))].push(position);
        }
    }
    let by_name = |layer: &mut Vec<usize>| layer.sort_by(|&left, &right| wheels[left].name.cmp(&wheels[right].name));
    shared.iter_mut().for_each(by_name);
    by_name(&mut big);
    shared.into_iter().filter(|layer| !layer.is_empty()).chain(big.into_iter().map(|position| vec![position])).collect()
}

fn bucket(name: &str) -> u8 {
    Digest::of(name.as_bytes()).as_bytes()[0] % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weighed(name: &str, size_bytes: u64) -> Weighed {
        Weighed { name: name.to_owned(), size_bytes }
    }

    fn names(wheels: &[Weighed]) -> Vec<Vec<&str>> {
        assign(wheels, 100).iter().map(|layer| layer.iter().map(|&i| wheels[i].name.as_str()).collect()).collect()
    }

    #[test]
    fn big_wheels_have_their_own_layer_and_the_order_of_the_list_does_not_matter() {
        let mut wheels = vec![weighed("six", 11_000), weighed("torch", 800 << 20), weighed("numpy", 4 << 20)];
        let expected = vec![vec!["six"], vec!["numpy"], vec!["torch"]];
        assert_eq!(names(&wheels), expected);
        wheels.reverse();
        assert_eq!(names(&wheels), expected);
    }

    #[test]
    fn adding_a_small_package_changes_one_layer() {
        let mut wheels: Vec<_> = (0..50).map(|number| weighed(&format!("package-{number}"), 1)).collect();
        let before: Vec<Vec<String>> =
            names(&wheels).iter().map(|layer| layer.iter().map(ToString::to_string).collect()).collect();
        wheels.insert(7, weighed("another", 1));
        let after = names(&wheels);
        assert_eq!(after.iter().filter(|layer| !before.iter().any(|old| old == *layer)).count(), 1);
    }

    #[test]
    fn there_are_never_more_than_50_layers_and_every_wheel_is_in_one() {
        let wheels: Vec<_> = (0..300).map(|number| weighed(&format!("p{number}"), (4 << 20) + number)).collect();
        let layers = assign(&wheels, 50);
        assert!(layers.len() <= 50, "{}", layers.len());
        let mut all: Vec<_> = layers.concat();
        all.sort_unstable();
        assert_eq!(all, (0..300).collect::<Vec<_>>());
        assert!(layers.contains(&vec![299]) && !layers.contains(&vec![0]));
    }
}
