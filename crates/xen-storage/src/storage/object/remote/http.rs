//! The HTTP client below the stores, which tells apart what may succeed when it is tried again, and
//! remembers the store's time.

use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// A request that got no answer, or one that says to ask again.
#[derive(Debug)]
pub struct Transient {
    kind: io::ErrorKind,
    text: String,
}

impl Transient {
    /// Returns the kind of error that it is.
    pub fn kind(&self) -> io::ErrorKind {
        self.kind
    }
}

impl fmt::Display for Transient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Transient {}

/// Returns the innermost cause of an error: the others only say that there was one.
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost
}

/// The time of a store, of its last answer.
#[derive(Clone, Default, Debug)]
pub struct Clock(Arc<Mutex<Option<(SystemTime, Instant)>>>);

impl Clock {
    fn set(&self, date: &str) {
        let parsed = parse_date(date).map(|time| (time, Instant::now()));
        if parsed.is_some() {
            *self.0.lock().expect("no holder panics") = parsed;
        }
    }

    /// Returns the time that it is there now.
    pub fn now(&self) -> Option<SystemTime> {
        let (time, at) = (*self.0.lock().expect("no holder panics"))?;
        Some(time + at.elapsed())
    }
}

/// Parses the date of an answer, as in `Sun, 06 Nov 1994 08:49:37 GMT`.
fn parse_date(text: &str) -> Option<SystemTime> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = MONTHS.find(words.next().filter(|name| name.len() == 3)?)? as u64 / 3;
    let year: u64 = words.next()?.parse().ok()?;
    let mut time = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (time.next()??, time.next()??, time.next()??);
    // Days since the first of March of the year 0, of a year that begins in March.
    let (year, month) =
        if month < 2 { (year.checked_sub(1)?, month + 10) } else { (year, month - 2) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let since_1970 = days.checked_sub(719_468)?;
    let seconds = since_1970 * 86_400 + hours * 3600 + minutes * 60 + seconds;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Makes clients.
#[derive(Debug)]
pub struct Connector {
    /// Is told the store's time.
    pub clock: Clock,
    /// Set if a conflict (409) is one with a request that goes on at the same time, as in S3.
    /// Elsewhere it is how a broken condition is told.
    pub conflicts_pass: bool,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        let Connector { clock, conflicts_pass } = self;
        let (clock, conflicts_pass) = (clock.clone(), *conflicts_pass);
        Ok(HttpClient::new(Service { client, clock, conflicts_pass }))
    }
}

#[derive(Debug)]
struct Service {
    client: HttpClient,
    clock: Clock,
    conflicts_pass: bool,
}

impl Service {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let transient =
            |kind, text| HttpError::new(HttpErrorKind::Unknown, Transient { kind, text });
        let response = self.client.execute(request).await.map_err(|error| {
            let kind = match error.kind() {
                HttpErrorKind::Connect => io::ErrorKind::ConnectionRefused,
                HttpErrorKind::Timeout => io::ErrorKind::TimedOut,
                _ => io::ErrorKind::Interrupted,
            };
            transient(kind, format!("no answer: {}", innermost(&error)))
        })?;
        if let Some(date) = response.headers().get("date").and_then(|date| date.to_str().ok()) {
            self.clock.set(date);
        }
        let status = response.status();
        // 501 says that the store cannot do it at all.
        match status.as_u16() {
            409 if !self.conflicts_pass => Ok(response),
            409 | 429 | 500 | 502..=599 => {
                Err(transient(io::ErrorKind::ResourceBusy, format!("it answers {status}")))
            }
            _ => Ok(response),
        }
    }
}

/// The trait is one of `async_trait`, written out.
impl HttpService for Service {
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.send(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_parsed() {
        let seconds = |text| {
            let time = parse_date(text)?;
            Some(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
        };
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds("Thu, 29 Feb 2024 00:00:01 GMT"), Some(1_709_164_801));
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(seconds("yesterday"), None);
        assert_eq!(seconds("Sun, 06 an 1994 08:49:37 GMT"), None);
    }
}
