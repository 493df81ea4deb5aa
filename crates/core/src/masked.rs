//! Secrets taken out of what programs print. Pure.

/// What stands in place of a secret.
const MASK: &str = "****";
/// Shorter ones are not masked: they would stand in every other word.
const MASKED_CHARACTERS_MIN: usize = 4;

/// Texts that must not be shown.
#[derive(Clone, Default)]
pub struct Masked(Vec<String>);

impl Masked {
    /// `text` without them.
    pub fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, MASK))
    }

    /// Programs print line by line, so each line of a secret counts. The longest first, as one may hold another.
    pub fn add(&mut self, secret: &str) {
        let lines = secret.lines().map(str::trim).filter(|line| line.chars().count() >= MASKED_CHARACTERS_MIN);
        self.0.extend(lines.map(str::to_owned));
        self.0.sort_by_key(|text| std::cmp::Reverse(text.len()));
    }
}

impl std::fmt::Debug for Masked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Masked(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_of_two_secrets_is_masked_first() {
        let mut masked = Masked::default();
        masked.add("key\npass\n");
        masked.add("passphrase");
        assert_eq!(masked.apply("passphrase pass key"), "**** **** key");
    }
}
