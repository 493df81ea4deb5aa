//! One request to a registry with all that belongs to it: credentials, redirects, and the choice of `http` or `https`.
//! Tries nothing twice.

use std::io::Read;
use std::time::{Duration, SystemTime};

use reqwest::blocking::{Body, Response};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::authentication::{Need, TokenRequest};
use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::{Asker, ConnectionProblem, Error, RegistryAnswer, sanitized, shown};
use crate::retry::parse_retry_after;
use crate::scope::Scopes;
use crate::transport::{HEAD_TIMEOUT, Watch, problem_of_read, send};

const REDIRECTS_MAX: usize = 5;

/// Most of an error's body that is read.
const ERROR_SIZE_BYTES_MAX: u64 = 64 * 1024;

/// Most of a token server's answer that is read.
const TOKEN_SIZE_BYTES_MAX: u64 = 1024 * 1024;

/// A header that every registry's answer has had since its first version, though the specification no longer says so.
const API_VERSION: &str = "Docker-Distribution-Api-Version";

/// A request.
pub(crate) struct Call<'c> {
    pub(crate) method: Method,
    pub(crate) target: Target,
    /// Whose credentials are sent.
    pub(crate) repository: &'c str,
    /// What a token must be good for.
    pub(crate) scopes: Scopes,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content<'c>,
}

/// Where a request goes.
pub(crate) enum Target {
    /// A path below `/v2/` of the registry, the query included.
    Api(String),
    /// A place that the registry named. If it is at another host, no credentials go there.
    Location(Url),
}

/// What a request sends.
pub(crate) enum Content<'c> {
    Nothing,
    Bytes(&'c [u8]),
    /// Opens the content, anew for each attempt, and says how long sending it may take.
    Stream(&'c dyn Fn() -> Result<(Body, Duration), Error>),
}

/// The errors of an answer (distribution-spec, "Error Codes").
#[derive(Deserialize)]
struct ErrorDocument {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Client<'_> {
    /// Sends `call` and returns whatever the registry answers. `tick` is called now and then meanwhile.
    ///
    /// # Errors
    /// When there is no answer, or one that leads to a place that is refused.
    pub(crate) fn exchange(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
        tick: &mut dyn FnMut(),
    ) -> Result<Response, Error> {
        let need = Need {
            endpoint,
            repository: call.repository,
            scopes: &call.scopes,
            fetch: &|request| self.fetch_token(endpoint, &request),
        };
        let is_own = match &call.target {
            Target::Api(_) => true,
            Target::Location(url) => endpoint.is_origin_of(url),
        };
        let authorization = if is_own { self.authentication.prepare(&need)? } else { None };
        let mut response = self.reach(endpoint, call, authorization.as_ref(), tick)?;
        if response.status() != StatusCode::UNAUTHORIZED || !endpoint.is_origin_of(response.url()) {
            return Ok(response);
        }
        if let Some(better) = self.authentication.answer(&need, response.headers(), authorization.as_ref())? {
            response = self.reach(endpoint, call, Some(&better), tick)?;
        }
        if response.status() == StatusCode::UNAUTHORIZED && self.authentication.has_credentials(&need) {
            response.extensions_mut().insert(Asker::Account);
        }
        Ok(response)
    }

    /// Sends `call` by the first way to the registry that works.
    fn reach(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
        authorization: Option<&HeaderValue>,
        tick: &mut dyn FnMut(),
    ) -> Result<Response, Error> {
        let mut first = None;
        loop {
            let url = match &call.target {
                Target::Api(path) => endpoint.url(path)?,
                Target::Location(url) => url.clone(),
            };
            let outcome = self.follow(endpoint, call, url.clone(), authorization, tick);
            let is_wrong = is_wrong_way(&url, &outcome);
            if outcome.is_ok() && !is_wrong {
                endpoint.settle();
                return outcome;
            }
            if first.is_none() && is_wrong && endpoint.turn_from(&url) {
                first = Some(outcome);
                continue;
            }
            // That a certificate is not trusted tells more than that the first way is not spoken here.
            return match first {
                Some(first) if !is_about_certificate(&outcome) => {
                    endpoint.turn_from(&url);
                    first
                }
                _ => outcome,
            };
        }
    }

    /// Sends `call` to `url` and follows redirects. `authorization` goes no further than the origin of `url`.
    fn follow(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
        mut url: Url,
        mut authorization: Option<&HeaderValue>,
        tick: &mut dyn FnMut(),
    ) -> Result<Response, Error> {
        for _ in 0..=REDIRECTS_MAX {
            let client = self.transport.client(&endpoint.setup(&url))?;
            let mut builder = client.request(call.method.clone(), url.clone()).headers(call.headers.clone());
            if let Some(authorization) = authorization {
                builder = builder.header(AUTHORIZATION, authorization);
            }
            if call.method == Method::HEAD {
                builder = builder.timeout(HEAD_TIMEOUT);
            }
            builder = match call.content {
                Content::Nothing if matches!(call.method, Method::GET | Method::HEAD) => builder,
                Content::Nothing => builder.body(Vec::new()),
                Content::Bytes(bytes) => builder.body(bytes.to_vec()),
                Content::Stream(open) => {
                    let (body, timeout) = open()?;
                    builder.body(body).timeout(timeout)
                }
            };
            let request = builder.build().map_err(|error| Error::Setup { problem: error.without_url().to_string() })?;
            let mut watch = Watch { cancelled: self.cancelled, tick: &mut *tick };
            let response = send(&client, endpoint.registry(), request, &mut watch)?;
            let Some(next) = redirection(endpoint, call, &response)? else { return Ok(response) };
            if next.origin() != url.origin() {
                authorization = None;
            }
            url = next;
        }
        Err(Error::Redirect {
            registry: endpoint.registry().to_owned(),
            url: shown(&url),
            problem: "too many redirects",
        })
    }

    fn fetch_token(&self, endpoint: &Endpoint, request: &TokenRequest) -> Result<Vec<u8>, Error> {
        let mut headers = HeaderMap::new();
        let content = match &request.form {
            Some(form) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
                Content::Bytes(form.expose().as_bytes())
            }
            None => Content::Nothing,
        };
        let method = if request.form.is_some() { Method::POST } else { Method::GET };
        let target = Target::Location(request.realm.clone());
        let call = Call { method, target, repository: "", scopes: Scopes::default(), headers, content };
        let mut response =
            self.follow(endpoint, &call, request.realm.clone(), request.authorization.as_ref(), &mut || {})?;
        if !response.status().is_success() {
            if request.form.is_some() || request.authorization.is_some() {
                response.extensions_mut().insert(Asker::Account);
            }
            return Err(answer_error(endpoint, &call.method, response));
        }
        read_bounded(endpoint, response, TOKEN_SIZE_BYTES_MAX)
    }
}

/// Where `response` redirects to, if it does and may.
fn redirection(endpoint: &Endpoint, call: &Call<'_>, response: &Response) -> Result<Option<Url>, Error> {
    let refused =
        |problem| Error::Redirect { registry: endpoint.registry().to_owned(), url: shown(response.url()), problem };
    let keeps_method = match response.status().as_u16() {
        307 | 308 => true,
        301..=303 => matches!(call.method, Method::GET | Method::HEAD),
        _ => return Ok(None),
    };
    if !keeps_method {
        return Err(refused("it would change what is asked"));
    }
    let next = location(endpoint, response)?;
    // The only content that is posted is the form with an identity token, which is for the token server alone.
    let is_form = call.method == Method::POST && matches!(call.content, Content::Bytes(_));
    if is_form && next.origin() != response.url().origin() {
        return Err(refused("the token server redirects a secret"));
    }
    Ok(Some(next))
}

/// The place that the `Location` header of `response` names.
///
/// # Errors
/// When there is none, or one that is less safe than where the answer came from.
pub(crate) fn location(endpoint: &Endpoint, response: &Response) -> Result<Url, Error> {
    let refused =
        |problem| Error::Redirect { registry: endpoint.registry().to_owned(), url: shown(response.url()), problem };
    let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let text = text.ok_or_else(|| refused("it names no place"))?;
    let mut url = response.url().join(text).map_err(|_| refused("the place is no URL"))?;
    match (response.url().scheme(), url.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") => return Err(refused("it leads from `https` to `http`")),
        _ => return Err(refused("it leads neither to `https` nor to `http`")),
    }
    // Credentials in a URL would be sent as if they were ours.
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return Err(refused("the place has no host"));
    }
    Ok(url)
}

/// Whether an outcome looks as if the other side spoke `https` where `http` was tried, or the other way round.
fn is_wrong_way(url: &Url, outcome: &Result<Response, Error>) -> bool {
    match outcome {
        // What Go's and nginx's servers say to plain text on a port for TLS.
        Ok(response) => {
            url.scheme() == "http"
                && response.status() == StatusCode::BAD_REQUEST
                && !response.headers().contains_key(API_VERSION)
        }
        Err(Error::Connection { problem, .. }) => {
            url.scheme() == "https"
                && matches!(
                    problem,
                    ConnectionProblem::Tls(_)
                        | ConnectionProblem::NoTls
                        | ConnectionProblem::Broken(_)
                        | ConnectionProblem::Refused
                )
        }
        Err(_) => false,
    }
}

fn is_about_certificate(outcome: &Result<Response, Error>) -> bool {
    matches!(outcome, Err(Error::Connection { problem: ConnectionProblem::Tls(text), .. }) if text.contains("certificate"))
}

/// The error that an answer is which is no success.
pub(crate) fn answer_error(endpoint: &Endpoint, method: &Method, response: Response) -> Error {
    let asker = response.extensions().get::<Asker>().copied().unwrap_or(Asker::Nobody);
    let (status, url) = (response.status().as_u16(), shown(response.url()));
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|text| parse_retry_after(text, SystemTime::now()));
    let mut body = Vec::new();
    // A broken body takes nothing from what the status says.
    let is_read = *method != Method::HEAD && response.take(ERROR_SIZE_BYTES_MAX).read_to_end(&mut body).is_ok();
    let document = serde_json::from_slice::<ErrorDocument>(&body).ok().filter(|_| is_read);
    let entry = document.and_then(|document| document.errors.into_iter().next());
    let is_code = |code: &String| {
        !code.is_empty() && code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let (code, message) = match entry {
        Some(entry) => (Some(entry.code).filter(is_code), sanitized(&entry.message)),
        None => (None, None),
    };
    Error::Answer(Box::new(RegistryAnswer {
        registry: endpoint.registry().to_owned(),
        method: method.to_string(),
        url,
        status,
        code,
        message,
        retry_after,
        asker,
    }))
}

/// The whole body of an answer.
///
/// # Errors
/// When it is longer than `limit_bytes`, or breaks.
pub(crate) fn read_bounded(endpoint: &Endpoint, response: Response, limit_bytes: u64) -> Result<Vec<u8>, Error> {
    let url = shown(response.url());
    let mut body = Vec::new();
    let read = response.take(limit_bytes + 1).read_to_end(&mut body);
    if body.len() as u64 > limit_bytes {
        return Err(Error::TooLarge { name: url, limit_bytes });
    }
    match read {
        Ok(_) => Ok(body),
        Err(error) => {
            Err(Error::Connection { url, registry: endpoint.registry().to_owned(), problem: problem_of_read(&error) })
        }
    }
}
