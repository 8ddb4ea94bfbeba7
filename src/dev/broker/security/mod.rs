//! Who may do what: ACLs, SCRAM users and their logins, client quotas.
//!
//! All of it is stored and shown as Kafka does. ACLs are enforced when the broker is started so ([`Settings::authorize`]);
//! quotas are not: nobody throttles a laptop.
//!
//! [`Settings::authorize`]: super::Settings::authorize

pub mod acls;
pub(super) mod guard;
pub mod quotas;
pub mod sasl;
pub mod scram;

use std::io;

use super::journal::Journal;

/// All that is known about rights.
#[derive(Debug)]
pub struct Security {
    pub acls: acls::Acls,
    pub quotas: quotas::Quotas,
    pub scram: scram::Users,
}

impl Security {
    pub(super) fn open(journal: &Journal) -> io::Result<Security> {
        Ok(Security {
            acls: acls::Acls::open(journal)?,
            quotas: quotas::Quotas::open(journal)?,
            scram: scram::Users::open(journal)?,
        })
    }
}
