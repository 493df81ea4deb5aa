//! What the in-process registry answers (OCI distribution-spec 1.1, "Endpoints").

use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use imagespec_core::digest::Digest;
use url::form_urlencoded;

use super::http::{Answer, Request, Step};
use super::{Access, Fault, State};

/// Takes the fault that is to happen to a request whose head has come.
pub(super) fn fault(state: &Mutex<State>, request: &Request) -> Option<Fault> {
    let mut state = lock(state);
    let is_meant = |(method, path_part, _): &(String, String, Fault)| {
        *method == request.method && request.path.contains(path_part.as_str())
    };
    let position = state.faults.iter().position(is_meant)?;
    Some(state.faults.remove(position).2)
}

/// Does what a request asks, and what `fault` makes of it.
pub(super) fn take(state: &Mutex<State>, request: &mut Request, fault: Option<Fault>) -> Step {
    let mut state = lock(state);
    if fault == Some(Fault::IgnoreRange) {
        request.headers.remove("range");
    }
    state.requests.push(request.clone());
    if let Some(Fault::Answer(answer)) = fault {
        return Step::Answer(answer, None);
    }
    let mut answer = state.answer(request);
    match fault {
        Some(Fault::Header(name, value)) => {
            answer.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
            answer.headers.push((name.to_owned(), value));
        }
        Some(Fault::Body(body)) => answer.body = body,
        Some(Fault::BreakAnswer(length)) => return Step::Answer(answer, Some(length)),
        Some(Fault::BreakRequest(_) | Fault::LoseAnswer) => return Step::Close,
        Some(Fault::Answer(_) | Fault::IgnoreRange) | None => {}
    }
    Step::Answer(answer, None)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn answer(&mut self, request: &Request) -> Answer {
        if request.path == "/token" {
            return self.token(request);
        }
        let Some(path) = request.path.strip_prefix("/v2/") else { return Answer::of(404) };
        if let Some((repository, upload)) = path.split_once("/blobs/uploads/") {
            return self.denied(request, repository).unwrap_or_else(|| self.upload(request, repository, upload));
        }
        if let Some((repository, digest)) = path.split_once("/blobs/") {
            return self.denied(request, repository).unwrap_or_else(|| self.blob_answer(request, repository, digest));
        }
        match path.split_once("/manifests/") {
            Some((repository, name)) => {
                self.denied(request, repository).unwrap_or_else(|| self.manifest_answer(request, repository, name))
            }
            None => Answer::of(404),
        }
    }

    /// The answer to those who may not do what they ask.
    fn denied(&self, request: &Request, repository: &str) -> Option<Answer> {
        let action = if matches!(request.method.as_str(), "GET" | "HEAD") { "pull" } else { "push" };
        let challenge = match &self.access {
            None | Some(Access::Open) => return None,
            Some(Access::Basic { username, password }) => {
                if is_basic(request, username, password) {
                    return None;
                }
                "Basic realm=\"registry\"".to_owned()
            }
            Some(Access::Bearer { .. }) => {
                let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
                let scopes = token.and_then(|token| self.tokens.get(token));
                let allows = |scope: &String| {
                    scope.rsplit_once(':').is_some_and(|(resource, actions)| {
                        resource == format!("repository:{repository}") && actions.split(',').any(|one| one == action)
                    })
                };
                if scopes.is_some_and(|scopes| scopes.iter().any(allows)) {
                    return None;
                }
                let (host, scope) = (&self.host, format!("repository:{repository}:{action}"));
                format!("Bearer realm=\"http://{host}/token\",service=\"registry\",scope=\"{scope}\"")
            }
        };
        Some(Answer::error(401, "UNAUTHORIZED", "authentication required").header("WWW-Authenticate", challenge))
    }

    fn token(&mut self, request: &Request) -> Answer {
        let Some(Access::Bearer { username, password }) = &self.access else { return Answer::of(404) };
        let form: Vec<(String, String)> = form_urlencoded::parse(&request.body).into_owned().collect();
        let is_refresh = form.iter().any(|(key, value)| key == "refresh_token" && value == password);
        let is_user = is_refresh || is_basic(request, username, password);
        if !is_user && (request.method == "POST" || request.header("authorization").is_some()) {
            return Answer::error(401, "UNAUTHORIZED", "wrong user name or password");
        }
        let scopes = request.query.iter().chain(&form).filter(|(key, _)| key == "scope");
        let scopes: Vec<String> = scopes
            .flat_map(|(_, value)| value.split(' '))
            .map(|scope| if is_user { scope.to_owned() } else { scope.replace("pull,push", "pull") })
            .collect();
        self.tokens_given += 1;
        let token = format!("token-{}", self.tokens_given);
        self.tokens.insert(token.clone(), scopes);
        let document = serde_json::json!({"token": token, "access_token": token, "expires_in": 300});
        Answer::of(200).header("Content-Type", "application/json").body(document.to_string())
    }

    fn blob_answer(&self, request: &Request, repository: &str, digest: &str) -> Answer {
        let blob = digest.parse().ok().and_then(|digest: Digest| self.blobs.get(&(repository.to_owned(), digest)));
        let Some(blob) = blob else { return Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry") };
        let start =
            request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let answer = Answer::default().header("Docker-Content-Digest", digest);
        match start.filter(|start: &usize| *start < blob.len()) {
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", blob.len() - 1, blob.len());
                Answer { status: 206, ..answer }.header("Content-Range", range).body(&blob[start..])
            }
            None => Answer { status: 200, ..answer }.body(&blob[..]),
        }
    }

    fn manifest_answer(&mut self, request: &Request, repository: &str, name: &str) -> Answer {
        if request.method == "PUT" {
            let digest = Digest::of(&request.body);
            match name.parse::<Digest>() {
                Ok(expected) if expected != digest => {
                    return Answer::error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
                }
                Ok(_) => {}
                Err(_) => drop(self.tags.insert((repository.to_owned(), name.to_owned()), digest)),
            }
            let media_type = request.header("content-type").unwrap_or_default().to_owned();
            self.manifests.insert((repository.to_owned(), digest), (media_type, request.body.clone()));
            return Answer::of(201).header("Docker-Content-Digest", digest.to_string());
        }
        let digest = name.parse().ok().or_else(|| self.tags.get(&(repository.to_owned(), name.to_owned())).copied());
        let found = digest.and_then(|digest| Some((digest, self.manifests.get(&(repository.to_owned(), digest))?)));
        match found {
            Some((digest, (media_type, bytes))) => Answer::of(200)
                .header("Content-Type", media_type)
                .header("Docker-Content-Digest", digest.to_string())
                .body(&bytes[..]),
            None => Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        }
    }

    fn upload(&mut self, request: &Request, repository: &str, upload: &str) -> Answer {
        let digest = |name| request.parameter(name).and_then(|digest| digest.parse::<Digest>().ok());
        if request.method == "POST" {
            let mounted = digest("mount").zip(request.parameter("from"));
            let mounted = mounted.and_then(|(digest, from)| {
                self.blobs.get(&(from.to_owned(), digest)).cloned().map(|blob| (digest, blob))
            });
            if let Some((digest, blob)) = mounted {
                self.blobs.insert((repository.to_owned(), digest), blob);
                return Answer::of(201).header("Docker-Content-Digest", digest.to_string());
            }
            self.uploads_started += 1;
            self.uploads.insert(self.uploads_started, Vec::new());
            return position(Answer::of(202), repository, self.uploads_started, 0);
        }
        let id: u64 = upload.parse().unwrap_or(0);
        let Some(content) = self.uploads.get_mut(&id) else {
            return Answer::error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
        };
        let start = request.header("content-range").and_then(|range| range.split_once('-')?.0.parse::<usize>().ok());
        if start.is_some_and(|start| start != content.len()) {
            return Answer::error(416, "RANGE_INVALID", "invalid content range");
        }
        content.extend_from_slice(&request.body);
        let length = content.len();
        match request.method.as_str() {
            "PATCH" => position(Answer::of(202), repository, id, length),
            "GET" => position(Answer::of(204), repository, id, length),
            "PUT" if digest("digest") == Some(Digest::of(content)) => {
                let content = self.uploads.remove(&id).unwrap_or_default();
                self.blobs.insert((repository.to_owned(), Digest::of(&content)), content);
                Answer::of(201)
            }
            _ => Answer::error(400, "DIGEST_INVALID", "provided digest did not match uploaded content"),
        }
    }
}

fn position(answer: Answer, repository: &str, id: u64, length: usize) -> Answer {
    let location = format!("/v2/{repository}/blobs/uploads/{id}?_state=x%2By");
    answer.header("Location", location).header("Range", format!("0-{}", length.saturating_sub(1)))
}

fn is_basic(request: &Request, username: &str, password: &str) -> bool {
    let expected = format!("Basic {}", BASE64.encode(format!("{username}:{password}")));
    request.header("authorization") == Some(&expected)
}
