//! Reads `WWW-Authenticate` (RFC 9110, section 11.6.1). Pure.

use std::collections::BTreeMap;

/// Longest header that is read.
const LENGTH_MAX: usize = 8 * 1024;

/// How a registry wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token from `realm` (CNCF distribution, "Token Authentication Specification").
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The best challenge of a header's values: a token before a password, as it is worth less to a thief.
pub(crate) fn choose_challenge<'v>(values: impl Iterator<Item = &'v str>) -> Option<Challenge> {
    let mut basic = None;
    for value in values.filter(|value| value.len() <= LENGTH_MAX) {
        for (scheme, mut parameters) in parse(value) {
            match scheme.as_str() {
                "bearer" => {
                    if let Some(realm) = parameters.remove("realm") {
                        let (service, scope) = (parameters.remove("service"), parameters.remove("scope"));
                        return Some(Challenge::Bearer { realm, service, scope });
                    }
                }
                "basic" => basic = Some(Challenge::Basic),
                _ => {}
            }
        }
    }
    basic
}

/// Schemes in lower case with their parameters, names in lower case. What breaks the grammar ends the reading.
fn parse(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut challenges: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = split_token(rest);
        if word.is_empty() {
            return challenges;
        }
        let after_space = after.trim_start_matches([' ', '\t']);
        match after_space.strip_prefix('=') {
            // A parameter of the scheme that was read last; or padding of a token68, which ends the reading.
            Some(value) => {
                let Some((_, parameters)) = challenges.last_mut() else { return challenges };
                let Some((value, after_value)) = split_value(value.trim_start_matches([' ', '\t'])) else {
                    return challenges;
                };
                parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                rest = after_value;
            }
            None => {
                challenges.push((word.to_ascii_lowercase(), BTreeMap::new()));
                rest = after_space;
            }
        }
    }
}

fn split_token(text: &str) -> (&str, &str) {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
    text.split_at(end)
}

/// A token or a quoted string, and what follows it.
fn split_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (token, rest) = split_token(text);
        return (!token.is_empty()).then(|| (token.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[index + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(value: &str) -> Option<Challenge> {
        choose_challenge(std::iter::once(value))
    }

    #[test]
    fn docker_hubs_challenge_is_read() {
        insta::assert_debug_snapshot!(choose(r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/debian:pull,push""#), @r#"
        Some(
            Bearer {
                realm: "https://auth.docker.io/token",
                service: Some(
                    "registry.docker.io",
                ),
                scope: Some(
                    "repository:library/debian:pull,push",
                ),
            },
        )
        "#);
    }

    #[test]
    fn a_token_is_chosen_before_a_password_whatever_their_order() {
        let bearer = Some(Challenge::Bearer { realm: "https://x/".to_owned(), service: None, scope: None });
        assert_eq!(choose(r#"Basic realm="a, b", BEARER Realm = "https://x/""#), bearer);
        assert_eq!(
            choose_challenge(["Negotiate abc==", "Basic realm=x", r#"bearer realm="https:\//x/""#].into_iter()),
            bearer
        );
        assert_eq!(choose("Basic"), Some(Challenge::Basic));
    }

    #[test]
    fn what_breaks_the_grammar_is_no_challenge() {
        for text in [
            "",
            ",,,",
            "=",
            "realm=x",
            "Bearer",
            "Bearer realm=",
            "Bearer realm=\"x",
            "Bearer realm=\"x\\",
            "Digest nonce=1",
            "é",
        ] {
            assert_eq!(choose(text), None, "{text}");
        }
        assert_eq!(choose(&format!("Basic realm=\"{}\"", "x".repeat(9000))), None);
    }
}
