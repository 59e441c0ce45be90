//! From a configured destination to its format and its sink.

use crate::config::{Destination, Kind};
use crate::delivery::compress::Encoder;
use crate::delivery::format::{AnyFormat, Elasticsearch, Format, Framing, Json, Loki, Otlp, Splunk};
use crate::delivery::sink::Sink;
use crate::delivery::transport::Transport;
use crate::error::Error;

/// The format of a destination.
pub(crate) fn format(destination: &Destination) -> AnyFormat {
    match &destination.kind {
        Kind::Elasticsearch { index, .. } => AnyFormat::Elasticsearch(Elasticsearch::new(index.clone())),
        Kind::Loki { labels, .. } => AnyFormat::Loki(Loki::new(labels.clone())),
        Kind::Otlp { .. } => AnyFormat::Otlp(Otlp::default()),
        Kind::Splunk { index, sourcetype, .. } => {
            AnyFormat::Splunk(Splunk { index: index.clone(), sourcetype: sourcetype.clone() })
        }
        Kind::Http { framing, .. } => AnyFormat::Json(Json::new(*framing)),
        Kind::Stdout | Kind::File { .. } => AnyFormat::Json(Json::new(Framing::Lines)),
    }
}

/// The way to a destination.
pub(crate) struct Outlet {
    pub(crate) sink: Sink,
    pub(crate) encoder: Encoder,
}

/// Opens the way to a destination for bodies of its format, and the encoder of what goes that way.
pub(crate) fn open(destination: &Destination, format: &AnyFormat) -> Result<Outlet, Error> {
    let http = match &destination.kind {
        Kind::Elasticsearch { http, .. }
        | Kind::Loki { http, .. }
        | Kind::Otlp { http }
        | Kind::Splunk { http, .. }
        | Kind::Http { http, .. } => http,
        Kind::Stdout => return Ok(Outlet { sink: Sink::Stdout, encoder: Encoder::Identity }),
        Kind::File { path } => return Ok(Outlet { sink: Sink::file(path)?, encoder: Encoder::Identity }),
    };
    let encoder = Encoder::new(http.compression).map_err(Error::Runtime)?;
    // Loki's protocol says snappy without a header.
    let token = if matches!(destination.kind, Kind::Loki { .. }) { None } else { encoder.token() };
    let transport = Transport::open(http, format.path(), format.content_type(), token)?;
    Ok(Outlet { sink: Sink::Http(Box::new(transport)), encoder })
}
