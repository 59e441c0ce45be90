//! Downloads: one URL to one body, checked against its sum. Retries what may pass, until the end of the run.
//!
//! A body that broke off is continued where it is certain to be the same one (a strong `ETag`), else it begins anew:
//! so a large file comes through a bad line. Never compressed on the way, and no secret is sent to another host than
//! the one that the config names.

mod redirect;

use std::cell::RefCell;
use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime};

use podkit_cli::units::{show_duration, show_size};
use podkit_cli::{chain, mask_url};
use podkit_https::{Access, Auth, Client, Timeouts, TlsFiles};
use podkit_lifecycle::Backoff;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    LAST_MODIFIED, RANGE,
};
use reqwest::{Method, Response, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::config::{Remote, hex};
use crate::content::{Body, Spool, Spooler};
use crate::error::{Error, target_hint};
use crate::limits::Limits;
use crate::net::{self, USER_AGENT};
use crate::state::{Validators, hash_url};
use redirect::{is_redirect, is_same_place, next};

/// Long enough for two retransmitted SYNs (1 s and 3 s), short enough to try again often.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause between tries is at most this long: most servers that are away are back in a moment.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause: late by so much at most, and no load for a server that is in trouble.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A server that asks for a longer pause is tried again after this one: the pod waits for us.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);
/// curl allows 50, Go 10; a file behind more than these is behind a loop.
const MAX_REDIRECTS: usize = 5;

/// What came of a download.
#[derive(Clone)]
pub(crate) enum Fetched {
    /// Other bytes than before, as far as the server knows.
    New(Download),
    /// The version that the validators name.
    Unchanged,
}

/// What was downloaded.
#[derive(Clone)]
pub(crate) struct Download {
    pub(crate) body: Body,
    /// SHA-256 of the body.
    pub(crate) sum: [u8; 32],
    /// How the server names it; nothing if it does not.
    pub(crate) validators: Option<Validators>,
}

/// Downloads `remote`, unless the server still has the version that `known` names.
///
/// # Errors
/// No answer until the end of the run, or one that is of no use.
pub(crate) fn get(
    remote: &Remote,
    known: Option<&Validators>,
    spooler: &Spooler,
    limits: &Limits,
) -> Result<Fetched, Error> {
    let name = mask_url(remote.url.as_str());
    let failed = |failure: Failure| Error::Fetch { url: name.clone(), why: failure.why, hint: failure.hint };
    // Its files are there before the container starts, so what is wrong with them does not pass.
    let open = |access| {
        let timeouts = Timeouts { connect: CONNECT_TIMEOUT.min(remote.timeout), request: None };
        Client::open(access, USER_AGENT, timeouts).map_err(|error| Failure::of(chain(&error)))
    };
    let stranger = TlsFiles { ca: remote.access.tls.ca.clone(), client: None };
    let mut fetcher = Fetcher {
        remote,
        known,
        spooler,
        client: open(remote.access.clone()).map_err(failed)?,
        stranger: open(Access { auth: Auth::None, tls: stranger }).map_err(failed)?,
        partial: Partial::begin(spooler),
    };
    let last = RefCell::new(None);
    let during = || match &*last.borrow() {
        Some(why) => format!("while downloading {name} ({why})"),
        None => format!("while downloading {name}"),
    };
    net::run(limits, during, fetcher.until_done(&name, &last))?.map_err(failed)
}

/// Why a try failed.
struct Failure {
    why: String,
    hint: Option<&'static str>,
    /// Whether another try may succeed.
    may_pass: bool,
    /// As the server asks.
    pause: Option<Duration>,
}

impl Failure {
    /// One that another try would meet again.
    fn of(why: impl Into<String>) -> Self {
        Self { why: why.into(), hint: None, may_pass: false, pause: None }
    }

    fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// One that another try may not meet.
    fn passing(why: impl Into<String>) -> Self {
        Self { may_pass: true, ..Self::of(why) }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let why = podkit_https::cause(&error);
        match podkit_https::distrust(&error) {
            Some(hint) => Self::of(why).hint(hint),
            None => Self::passing(why),
        }
    }
}

/// One download, over all its tries.
struct Fetcher<'a> {
    remote: &'a Remote,
    known: Option<&'a Validators>,
    spooler: &'a Spooler,
    client: Client,
    /// Without secrets and client certificate, for where a redirect leads.
    stranger: Client,
    partial: Partial,
}

/// What has come of a body.
struct Partial {
    spool: Spool,
    sum: Sha256,
    length: u64,
    /// By which the rest can be asked for.
    etag: Option<String>,
    /// Whether it came in more than one answer.
    is_pieced: bool,
}

impl Partial {
    fn begin(spooler: &Spooler) -> Self {
        Self { spool: spooler.begin(), sum: Sha256::new(), length: 0, etag: None, is_pieced: false }
    }
}

impl Fetcher<'_> {
    async fn until_done(&mut self, name: &str, last: &RefCell<Option<String>>) -> Result<Fetched, Failure> {
        let begun = Instant::now();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            self.client.refresh(name);
            let failure = match tokio::time::timeout(self.remote.timeout, self.attempt()).await {
                Ok(Ok(fetched)) => {
                    tell(name, &fetched, begun.elapsed());
                    return Ok(fetched);
                }
                Ok(Err(failure)) if !failure.may_pass => return Err(failure),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::passing(format!("not done in {}", show_duration(self.remote.timeout))),
            };
            let pause = backoff.next_delay() + failure.pause.unwrap_or_default().min(MAX_RETRY_AFTER);
            tracing::info!(
                url = name,
                have = self.partial.length,
                "{}; trying again in {:.2} s",
                failure.why,
                pause.as_secs_f64()
            );
            *last.borrow_mut() = Some(failure.why);
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&mut self) -> Result<Fetched, Failure> {
        if self.partial.etag.is_none() {
            self.begin_anew();
        }
        let response = self.ask().await?;
        let status = response.status();
        match status {
            StatusCode::OK => self.begin_anew(),
            StatusCode::PARTIAL_CONTENT if self.continues(response.headers()) => {
                self.partial.is_pieced = true;
            }
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if self.partial.length > 0 => {
                self.begin_anew();
                return Err(Failure::passing("the server did not continue where it broke off"));
            }
            StatusCode::NOT_MODIFIED if self.known.is_some() => return Ok(Fetched::Unchanged),
            _ => return Err(refused(&response)),
        }
        self.read(response).await
    }

    fn begin_anew(&mut self) {
        self.partial = Partial::begin(self.spooler);
    }

    /// Asks, and follows redirects.
    async fn ask(&self) -> Result<Response, Failure> {
        let mut url = self.remote.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let client = if is_same_place(&self.remote.url, &url) { &self.client } else { &self.stranger };
            let mut request = client.request(Method::GET, url.clone()).header(ACCEPT_ENCODING, "identity");
            for (name, value) in self.conditions() {
                request = request.header(name, value);
            }
            let response = request.send().await?;
            if !is_redirect(response.status()) {
                return Ok(response);
            }
            url = next(&url, response.headers()).map_err(Failure::of)?;
        }
        Err(Failure::of(format!("it is redirected more than {MAX_REDIRECTS} times")))
    }

    fn conditions(&self) -> Vec<(HeaderName, String)> {
        if let Some(etag) = &self.partial.etag {
            return vec![(RANGE, format!("bytes={}-", self.partial.length)), (IF_RANGE, etag.clone())];
        }
        let known = |name, value: Option<&String>| value.map(|value| (name, value.clone()));
        let etag = self.known.and_then(|known| known.etag.as_ref());
        let modified = self.known.and_then(|known| known.last_modified.as_ref());
        known(IF_NONE_MATCH, etag).into_iter().chain(known(IF_MODIFIED_SINCE, modified)).collect()
    }

    /// Whether a part is the one that was asked for.
    fn continues(&self, headers: &HeaderMap) -> bool {
        let range = text(headers, CONTENT_RANGE).unwrap_or_default();
        let from = format!("bytes {}-", self.partial.length);
        self.partial.length > 0 && range.to_ascii_lowercase().starts_with(&from)
    }

    async fn read(&mut self, mut response: Response) -> Result<Fetched, Failure> {
        let etag = text(response.headers(), ETAG);
        let last_modified = text(response.headers(), LAST_MODIFIED);
        let max_size = self.remote.max_size;
        let partial = &mut self.partial;
        if let Some(rest) = response.content_length()
            && partial.length.saturating_add(rest) > max_size
        {
            return Err(too_large(max_size, Some(partial.length.saturating_add(rest))));
        }
        let is_strong = |etag: &String| etag.starts_with('"');
        let etag_of_part = etag.clone().filter(is_strong);
        while let Some(bytes) = response.chunk().await? {
            if partial.length + bytes.len() as u64 > max_size {
                return Err(too_large(max_size, None));
            }
            partial.sum.update(&bytes);
            partial.spool.write_all(&bytes).map_err(|source| {
                let hint = target_hint(&source);
                Failure { hint, ..Failure::of(chain(&self.spooler.cannot_keep("it", source))) }
            })?;
            partial.length += bytes.len() as u64;
            partial.etag.clone_from(&etag_of_part);
        }
        let partial = std::mem::replace(partial, Partial::begin(self.spooler));
        let sum: [u8; 32] = partial.sum.finalize().into();
        match self.remote.sha256 {
            Some(wanted) if wanted != sum && partial.is_pieced => {
                return Err(Failure::passing("the parts that came do not make up the file"));
            }
            Some(wanted) if wanted != sum => {
                return Err(Failure::of(mismatch(&sum, &wanted))
                    .hint("check `sha256`, and that the URL leads to what was meant"));
            }
            _ => {}
        }
        let validators = (etag.is_some() || last_modified.is_some()).then(|| Validators {
            url: hash_url(self.remote.url.as_str()),
            etag,
            last_modified,
        });
        Ok(Fetched::New(Download { body: partial.spool.finish(), sum, validators }))
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn too_large(max_size: u64, size: Option<u64>) -> Failure {
    let why = match size {
        Some(size) => format!("it has {size} bytes, and `max_size` is {}", show_size(max_size)),
        None => format!("it is larger than `max_size`, {}", show_size(max_size)),
    };
    Failure::of(why).hint("raise `max_size` if that is what was meant")
}

/// Two sums that should be one, in words.
pub(crate) fn mismatch(sum: &[u8; 32], wanted: &[u8; 32]) -> String {
    format!("its SHA-256 is {}, not {}", hex(sum), hex(wanted))
}

/// An answer without the file.
fn refused(response: &Response) -> Failure {
    let status = response.status();
    let why = format!("the server answered {status}");
    match status.as_u16() {
        408 | 425 | 429 | 500..=599 => Failure {
            pause: podkit_https::retry_after(response.headers(), SystemTime::now()),
            ..Failure::passing(why)
        },
        401 | 403 => Failure::of(why).hint("check `auth`: whom the server wants, and what they may read"),
        404 | 410 => Failure::of(why).hint("check the URL: there is nothing at it"),
        407 => Failure::of(why).hint("the proxy of this container's environment wants to know who asks"),
        _ => Failure::of(why),
    }
}

fn tell(name: &str, fetched: &Fetched, took: Duration) {
    let seconds = (took.as_secs_f64() * 1e3).round() / 1e3;
    match fetched {
        Fetched::New(download) => {
            tracing::info!(url = name, size = download.body.len(), seconds, "downloaded");
        }
        Fetched::Unchanged => tracing::debug!(url = name, seconds, "the server has nothing new"),
    }
}
