//! All formats as one type: what works with a format is compiled once and not for each of them, which is 0.26 MB of
//! code. The price is a branch for each event, and it is always taken the same way.

use crate::delivery::format::{Answer, Elasticsearch, Format, Json, Loki, Origin, Otlp, Splunk, Verdict};
use crate::event::{Event, Time};

/// A destination's format.
pub(crate) enum AnyFormat {
    Elasticsearch(Elasticsearch),
    Json(Json),
    Loki(Loki),
    Otlp(Otlp),
    Splunk(Splunk),
}

/// What that format prepares.
pub(crate) enum AnyPrepared {
    Elasticsearch(<Elasticsearch as Format>::Prepared),
    Json(<Json as Format>::Prepared),
    Loki(<Loki as Format>::Prepared),
    Otlp(<Otlp as Format>::Prepared),
    Splunk(<Splunk as Format>::Prepared),
}

/// The same of whichever format it is.
macro_rules! each {
    ($any:expr, $format:ident => $what:expr) => {
        match $any {
            AnyFormat::Elasticsearch($format) => $what,
            AnyFormat::Json($format) => $what,
            AnyFormat::Loki($format) => $what,
            AnyFormat::Otlp($format) => $what,
            AnyFormat::Splunk($format) => $what,
        }
    };
}

impl Format for AnyFormat {
    type Prepared = AnyPrepared;

    fn path(&self) -> &'static str {
        each!(self, format => format.path())
    }

    fn read_at(&mut self, now: Time) {
        each!(self, format => format.read_at(now));
    }

    fn prepare(&self, origin: &Origin) -> AnyPrepared {
        match self {
            Self::Elasticsearch(format) => AnyPrepared::Elasticsearch(format.prepare(origin)),
            Self::Json(format) => AnyPrepared::Json(format.prepare(origin)),
            Self::Loki(format) => AnyPrepared::Loki(format.prepare(origin)),
            Self::Otlp(format) => AnyPrepared::Otlp(format.prepare(origin)),
            Self::Splunk(format) => AnyPrepared::Splunk(format.prepare(origin)),
        }
    }

    fn write(&mut self, event: &Event<'_>, origin: &AnyPrepared, offset: u64, out: &mut Vec<u8>) -> u32 {
        match (self, origin) {
            (Self::Elasticsearch(format), AnyPrepared::Elasticsearch(origin)) => {
                format.write(event, origin, offset, out)
            }
            (Self::Json(format), AnyPrepared::Json(origin)) => format.write(event, origin, offset, out),
            (Self::Loki(format), AnyPrepared::Loki(origin)) => format.write(event, origin, offset, out),
            (Self::Otlp(format), AnyPrepared::Otlp(origin)) => format.write(event, origin, offset, out),
            (Self::Splunk(format), AnyPrepared::Splunk(origin)) => format.write(event, origin, offset, out),
            _ => unreachable!("an origin is prepared by the format that writes its events"),
        }
    }

    fn body<'c>(&self, chunks: impl Iterator<Item = (u32, &'c [u8])> + Clone, out: &mut Vec<u8>) {
        each!(self, format => format.body(chunks, out));
    }

    fn is_joined(&self) -> bool {
        each!(self, format => format.is_joined())
    }

    fn content_type(&self) -> &'static str {
        each!(self, format => format.content_type())
    }

    fn show(&self, body: &[u8]) -> String {
        each!(self, format => format.show(body))
    }

    fn judge(&self, answer: &Answer, count: usize) -> Verdict {
        each!(self, format => format.judge(answer, count))
    }
}
