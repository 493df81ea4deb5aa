//! Chooses what proves to a registry who asks: nothing, a password, or a token that is fetched and kept.
//!
//! Token flow: CNCF distribution, "Token Authentication Specification" and "OAuth2 Token Authentication".

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded;

use crate::challenge::{Challenge, choose_challenge};
use crate::credentials::{Credential, CredentialError, CredentialStore};
use crate::endpoint::{DOCKER_HUB, Endpoint};
use crate::error::Error;
use crate::scope::Scopes;
use crate::secret::Secret;

/// Name of this program at token servers (OAuth 2.0, "client identifier").
const CLIENT_ID: &str = "imagespec";

/// How long a token lasts whose server does not say.
const TOKEN_LIFETIME_DEFAULT: Duration = Duration::from_secs(60);

/// How long before its end a token is no longer used.
const TOKEN_LIFETIME_MARGIN: Duration = Duration::from_secs(5);

/// A request to a token server.
pub(crate) struct TokenRequest {
    pub(crate) realm: Url,
    pub(crate) authorization: Option<HeaderValue>,
    /// A form to post; without one it is a GET.
    pub(crate) form: Option<Secret>,
}

/// The answer of a token server.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

struct Token {
    header: HeaderValue,
    ends: Instant,
}

type TokenSlot = Arc<Mutex<Option<Token>>>;

/// What was learned about one registry.
#[derive(Default)]
struct Learned {
    challenge: Option<Challenge>,
    tokens: BTreeMap<Scopes, TokenSlot>,
}

/// What is needed to ask for one repository.
pub(crate) struct Need<'n> {
    pub(crate) endpoint: &'n Endpoint,
    pub(crate) repository: &'n str,
    pub(crate) scopes: &'n Scopes,
    /// Sends a request to a token server and returns the body of its answer.
    pub(crate) fetch: &'n dyn Fn(TokenRequest) -> Result<Vec<u8>, Error>,
}

/// Remembers how registries want to be asked, and tokens by registry and scope. Of many threads, one fetches.
#[derive(Default)]
pub(crate) struct Authentication {
    credentials: CredentialStore,
    registries: Mutex<BTreeMap<String, Learned>>,
}

impl Authentication {
    pub(crate) fn new(credentials: CredentialStore) -> Self {
        Self { credentials, registries: Mutex::default() }
    }

    /// What to send with a first request, before the registry said what it wants: what it wanted the last time, else
    /// what the user stored for it, as long as no program must be run for that.
    ///
    /// # Errors
    /// When credentials cannot be read or the token server refuses them.
    pub(crate) fn prepare(&self, need: &Need<'_>) -> Result<Option<HeaderValue>, Error> {
        let challenge = self.with_learned(need, |learned| learned.challenge.clone());
        match challenge {
            Some(Challenge::Basic) => self.password(need),
            Some(challenge @ Challenge::Bearer { .. }) => self.token(need, &challenge, need.scopes).map(Some),
            // Docker Hub has an account for its token server, and the registry is another host.
            None if need.endpoint.registry() == DOCKER_HUB => Ok(None),
            None => {
                let stored = self.credentials.stored(need.endpoint.registry(), need.repository);
                match stored.map_err(|source| failed(need, source))? {
                    Some(Credential::Password { username, password }) => Ok(Some(basic(&username, &password))),
                    Some(Credential::RegistryToken(token)) => bearer(need, token.expose()).map(Some),
                    _ => Ok(None),
                }
            }
        }
    }

    /// What to send after the registry denied `denied`; nothing if there is nothing better.
    ///
    /// # Errors
    /// When credentials cannot be read, the token server refuses them, or the registry asks in an unsafe way.
    pub(crate) fn answer(
        &self,
        need: &Need<'_>,
        headers: &HeaderMap,
        denied: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Error> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let Some(challenge) = choose_challenge(values) else { return Ok(None) };
        let learned = challenge.clone();
        self.with_learned(need, |registry| registry.challenge = Some(learned));
        match &challenge {
            Challenge::Basic => Ok(self.password(need)?.filter(|header| Some(header) != denied)),
            Challenge::Bearer { scope, .. } => {
                let scopes = need.scopes.clone().and_demanded(scope.as_deref().unwrap_or_default());
                for scopes in [&scopes, need.scopes] {
                    self.forget(need, scopes, denied);
                }
                self.token(need, &challenge, &scopes).map(Some)
            }
        }
    }

    /// Whether credentials are stored for what is needed.
    pub(crate) fn has_credentials(&self, need: &Need<'_>) -> bool {
        matches!(self.credential(need), Ok(Some(_)))
    }

    fn password(&self, need: &Need<'_>) -> Result<Option<HeaderValue>, Error> {
        match self.credential(need)? {
            Some(Credential::Password { username, password }) => Ok(Some(basic(&username, &password))),
            Some(Credential::RegistryToken(token)) => bearer(need, token.expose()).map(Some),
            Some(Credential::IdentityToken(_)) | None => Ok(None),
        }
    }

    /// A token for `scopes`: the one that is kept, else a new one, which is kept for them and for what is needed.
    fn token(&self, need: &Need<'_>, challenge: &Challenge, scopes: &Scopes) -> Result<HeaderValue, Error> {
        let slot = self.with_learned(need, |learned| {
            let slot = Arc::clone(learned.tokens.entry(scopes.clone()).or_default());
            learned.tokens.insert(need.scopes.clone(), Arc::clone(&slot));
            slot
        });
        let mut token = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = token.as_ref().filter(|token| token.ends > Instant::now()) {
            return Ok(token.header.clone());
        }
        let new = self.fetch(need, challenge, scopes)?;
        Ok(token.insert(new).header.clone())
    }

    /// Forgets a token that the registry denied.
    fn forget(&self, need: &Need<'_>, scopes: &Scopes, denied: Option<&HeaderValue>) {
        let slot = self.with_learned(need, |learned| learned.tokens.get(scopes).cloned());
        if let Some(slot) = slot {
            let mut token = slot.lock().unwrap_or_else(PoisonError::into_inner);
            // Another thread may have fetched a new one meanwhile.
            if token.as_ref().is_some_and(|token| Some(&token.header) == denied) {
                *token = None;
            }
        }
    }

    fn fetch(&self, need: &Need<'_>, challenge: &Challenge, scopes: &Scopes) -> Result<Token, Error> {
        let Challenge::Bearer { realm, service, .. } = challenge else {
            return Err(refused(need, "a token is needed, though none was asked for"));
        };
        let credential = self.credential(need)?;
        if let Some(Credential::RegistryToken(token)) = &credential {
            return Ok(Token { header: bearer(need, token.expose())?, ends: Instant::now() + TOKEN_LIFETIME_DEFAULT });
        }
        let realm = checked_realm(need, realm)?;
        let request = token_request(realm, service.as_deref(), scopes, credential.as_ref());
        let body = (need.fetch)(request)?;
        let answer: TokenAnswer =
            serde_json::from_slice(&body).map_err(|_| refused(need, "the token server's answer cannot be read"))?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| refused(need, "the token server gave no token"))?;
        let lifetime = answer.expires_in.map_or(TOKEN_LIFETIME_DEFAULT, Duration::from_secs);
        // An absurd lifetime must not overflow the clock.
        let lifetime = lifetime.min(Duration::from_secs(24 * 3600)).saturating_sub(TOKEN_LIFETIME_MARGIN);
        Ok(Token { header: bearer(need, &token)?, ends: Instant::now() + lifetime })
    }

    fn credential(&self, need: &Need<'_>) -> Result<Option<Credential>, Error> {
        self.credentials.find(need.endpoint.registry(), need.repository).map_err(|source| failed(need, source))
    }

    fn with_learned<T>(&self, need: &Need<'_>, act: impl FnOnce(&mut Learned) -> T) -> T {
        let mut registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        act(registries.entry(need.endpoint.registry().to_owned()).or_default())
    }
}

/// The token server's address, if credentials may be sent there.
fn checked_realm(need: &Need<'_>, realm: &str) -> Result<Url, Error> {
    let url = Url::parse(realm).map_err(|_| refused(need, "the token server's address is no URL"))?;
    if !url.username().is_empty() || url.password().is_some() || url.host().is_none() {
        return Err(refused(need, "the token server's address is no plain URL"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if need.endpoint.allows_http() => Ok(url),
        _ => Err(refused(need, "its token server does not use `https`")),
    }
}

fn token_request(
    mut realm: Url,
    service: Option<&str>,
    scopes: &Scopes,
    credential: Option<&Credential>,
) -> TokenRequest {
    if let Some(Credential::IdentityToken(token)) = credential {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
        form.append_pair("refresh_token", token.expose()).append_pair("scope", &scopes.to_string());
        if let Some(service) = service {
            form.append_pair("service", service);
        }
        return TokenRequest { realm, authorization: None, form: Some(Secret::new(form.finish())) };
    }
    {
        let mut query = realm.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes.values() {
            query.append_pair("scope", &scope);
        }
    }
    let authorization = match credential {
        Some(Credential::Password { username, password }) => {
            realm.query_pairs_mut().append_pair("account", username);
            Some(basic(username, password))
        }
        _ => None,
    };
    TokenRequest { realm, authorization, form: None }
}

fn basic(username: &str, password: &Secret) -> HeaderValue {
    let text = format!("Basic {}", BASE64.encode(format!("{username}:{}", password.expose())));
    let mut header = HeaderValue::try_from(text).expect("base64 is a valid header");
    header.set_sensitive(true);
    header
}

fn bearer(need: &Need<'_>, token: &str) -> Result<HeaderValue, Error> {
    let mut header = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| refused(need, "a token has control characters"))?;
    header.set_sensitive(true);
    Ok(header)
}

fn refused(need: &Need<'_>, problem: &'static str) -> Error {
    Error::Authentication { registry: need.endpoint.registry().to_owned(), problem }
}

fn failed(need: &Need<'_>, source: CredentialError) -> Error {
    Error::Credentials { registry: need.endpoint.registry().to_owned(), source }
}
