//! Traffic of two kinds that goes on all the time: what policies always allow, and what they always forbid.

use std::net::SocketAddr;
use std::time::Duration;

use policy_lab::traffic::barrage::{Barrage, Shot, ShotKind, ShotReport};
use policy_lab::traffic::conversation::{Conversations, Talk, TalkReport};
use policy_lab::traffic::prober::{Flow, FlowReport, Prober, SourcePort};
use policy_lab::traffic::stream::EstablishedTcp;
use policy_lab::{Family, Lab};

use crate::world::{API, FRIEND, ROGUE, STRANGER, TCP, UDP, WEB};

/// How often a packet of each kind is sent.
const INTERVAL: Duration = Duration::from_millis(5);
/// A connection on which nothing comes back for so long, retransmissions included, is cut.
const PATIENCE: Duration = Duration::from_secs(3);

/// Connections that the first policy cuts, opened before.
pub struct CutConnections(Vec<(EstablishedTcp, [Shot; 2])>);

impl CutConnections {
    /// Opens them. Once a policy forbids them, their bytes are sent again and again by TCP itself.
    pub fn open(lab: &Lab) -> Self {
        let ends = [(STRANGER, WEB), (ROGUE, WEB), (WEB, ROGUE)];
        let open = |(from, to), family| {
            let connection = lab.establish_tcp(from, to, TCP, family, PATIENCE).expect("nothing is enforced yet");
            let (own, peer) = connection.addresses().expect("it is open");
            let shot = |from: &str, to: &str, [source, destination]: [SocketAddr; 2]| {
                let kind = ShotKind::MidStream(source.port(), destination.port());
                Shot { from: from.to_owned(), to: to.to_owned(), family, kind }
            };
            (connection, [shot(from, to, [own, peer]), shot(to, from, [peer, own])])
        };
        Self(ends.iter().flat_map(|ends| Family::BOTH.map(|family| open(*ends, family))).collect())
    }

    /// Sends bytes on all of them; says how many still carry any.
    pub fn alive(&mut self) -> usize {
        let exchanged = self.0.iter_mut().map(|(it, _)| it.exchange(Duration::from_millis(50)).is_allowed());
        exchanged.filter(|is_allowed| *is_allowed).count()
    }

    /// Packets in mid-stream of these connections, in both directions.
    fn shots(&self) -> impl Iterator<Item = Shot> {
        self.0.iter().flat_map(|(_, shots)| shots.clone())
    }
}

/// What policies forbid.
pub fn forbidden(cut: &CutConnections) -> Vec<Shot> {
    let kinds = [
        ShotKind::Udp(SourcePort::Fresh, UDP),
        ShotKind::Udp(SourcePort::Steady, UDP),
        ShotKind::Syn(TCP),
        ShotKind::Stray(TCP),
        ShotKind::Ping(SourcePort::Fresh),
        ShotKind::Ping(SourcePort::Steady),
    ];
    let mut shots: Vec<Shot> = cut.shots().collect();
    for (from, to) in [(STRANGER, WEB), (ROGUE, WEB), (WEB, STRANGER), (WEB, ROGUE)] {
        for family in Family::BOTH {
            shots.extend(kinds.map(|kind| Shot { from: from.to_owned(), to: to.to_owned(), family, kind }));
        }
    }
    shots
}

/// Sends what will be forbidden while nothing is: all of it arrives, and is known from then on.
pub fn rehearse(lab: &Lab, shots: &[Shot]) {
    let barrage = lab.barrage(shots, INTERVAL).expect("packets can be sent");
    std::thread::sleep(Duration::from_millis(150));
    for report in barrage.stop() {
        assert!(report.sent > 0 && report.arrived > 0, "before any policy {report}");
    }
}

/// All that goes on.
pub struct Traffic {
    barrage: Barrage,
    datagrams: Prober,
    talks: Conversations,
}

/// What became of it.
pub struct Seen {
    /// What policies forbid.
    pub forbidden: Vec<ShotReport>,
    /// Datagrams that they allow.
    pub datagrams: Vec<FlowReport>,
    /// Connections that they allow.
    pub talks: Vec<TalkReport>,
}

impl Traffic {
    /// Starts all of it.
    pub fn start(lab: &Lab, forbidden: &[Shot]) -> Self {
        let talk = |from: &str, to: &str, family| Talk { from: from.into(), to: to.into(), port: TCP, family };
        let talks = [
            talk(FRIEND, WEB, Family::V4),
            talk(FRIEND, WEB, Family::V6),
            talk(API, WEB, Family::V4),
            talk(API, WEB, Family::V6),
            talk(WEB, FRIEND, Family::V4),
        ];
        let flows = [
            Flow::steady(FRIEND, WEB, UDP),
            Flow::fresh(FRIEND, WEB, UDP).v6(),
            Flow::steady(API, WEB, UDP).v6(),
            Flow::fresh(API, WEB, UDP),
            Flow::steady(WEB, FRIEND, UDP).v6(),
            Flow::fresh(WEB, FRIEND, UDP),
        ];
        Self {
            barrage: lab.barrage(forbidden, INTERVAL).expect("packets can be sent"),
            datagrams: lab.probe_continuously(&flows, INTERVAL).expect("datagrams can be sent"),
            talks: lab.converse(&talks, INTERVAL, PATIENCE).expect("connections can be opened"),
        }
    }

    /// What has become of it so far; datagrams are on their way.
    pub fn seen(&self) -> Seen {
        Seen { forbidden: self.barrage.reports(), datagrams: self.datagrams.reports(), talks: self.talks.reports() }
    }

    /// Ends it, and says what became of it.
    pub fn stop(self) -> Seen {
        Seen { forbidden: self.barrage.stop(), datagrams: self.datagrams.stop(), talks: self.talks.stop() }
    }
}

impl Seen {
    /// How many forbidden packets were sent.
    pub fn forbidden_sent(&self) -> u64 {
        self.forbidden.iter().map(|report| report.sent).sum()
    }

    /// How many of them passed.
    pub fn forbidden_passed(&self) -> u64 {
        self.forbidden.iter().map(|report| report.arrived).sum()
    }

    /// How many allowed datagrams were sent.
    pub fn datagrams_sent(&self) -> u64 {
        self.datagrams.iter().map(|report| report.sent).sum()
    }

    /// How many of them did not arrive, or were not answered.
    pub fn datagrams_lost(&self) -> u64 {
        self.datagrams.iter().map(|report| report.sent - report.arrived.min(report.echoed)).sum()
    }

    /// How often bytes went both ways on allowed connections.
    pub fn exchanges(&self) -> u64 {
        self.talks.iter().map(|report| report.exchanges).sum()
    }

    /// How many allowed connections were cut.
    pub fn talks_cut(&self) -> usize {
        self.talks.iter().filter(|report| report.cut.is_some()).count()
    }
}
