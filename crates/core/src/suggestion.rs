//! Which known word somebody meant. Pure.

/// Words longer than this are not compared: the comparison takes time in the product of both lengths.
const WORD_CHARACTERS_MAX: usize = 48;

/// The candidate that `word` most probably means, if one is close enough.
///
/// Case and the difference between `-` and `_` do not count; about one wrong character in three is forgiven.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.chars().count() > WORD_CHARACTERS_MAX {
        return None;
    }
    let word = fold(word);
    let distance_max = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &fold(candidate)), candidate))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn fold(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word_and_nonsense_finds_none() {
        let fields = ["packages", "platform", "env"];
        assert_eq!(closest("pakages", fields), Some("packages"));
        assert_eq!(closest("Packages", fields), Some("packages"));
        assert_eq!(closest("platfrom", fields), Some("platform"));
        assert_eq!(closest("zzz", fields), None);
        assert_eq!(closest(&"packages".repeat(100_000), fields), None);
    }
}
