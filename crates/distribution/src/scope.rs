//! What a token is good for: `repository:NAME:ACTIONS` (CNCF distribution, "Docker Registry Token Scope"). Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Resources and what may be done with them. Ordered, so that equal needs share a token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    /// Reading from `repository`.
    pub(crate) fn pull(repository: &str) -> Self {
        Self::default().and(repository, &["pull"])
    }

    /// Writing to `repository`; whoever writes also asks what is there.
    pub(crate) fn push(repository: &str) -> Self {
        Self::default().and(repository, &["pull", "push"])
    }

    /// The same and reading from `repository`, which a mount needs.
    #[must_use]
    pub(crate) fn and_pull(self, repository: &str) -> Self {
        self.and(repository, &["pull"])
    }

    /// The same and what a registry asks for in words of its own. What is not understood is left out.
    #[must_use]
    pub(crate) fn and_demanded(mut self, text: &str) -> Self {
        for scope in text.split_whitespace() {
            if let Some((resource, actions)) = scope.rsplit_once(':') {
                self.0.entry(resource.to_owned()).or_default().extend(actions.split(',').map(str::to_owned));
            }
        }
        self
    }

    /// Each resource as a value of the query parameter `scope`.
    pub(crate) fn values(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(resource, actions)| {
            let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
            format!("{resource}:{}", actions.join(","))
        })
    }

    fn and(mut self, repository: &str, actions: &[&str]) -> Self {
        let resource = format!("repository:{repository}");
        self.0.entry(resource).or_default().extend(actions.iter().map(|action| (*action).to_owned()));
        self
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.values().collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_registry_demands_in_another_order_is_the_same_scope() {
        assert_eq!(Scopes::push("team/x").and_demanded("repository:team/x:push,pull"), Scopes::push("team/x"));
    }

    #[test]
    fn a_mount_reads_from_a_second_repository() {
        insta::assert_snapshot!(Scopes::push("team/x").and_pull("base"), @"repository:base:pull repository:team/x:pull,push");
    }
}
