//! ACLs: created, shown, deleted by filter, and what they allow (KIP-11, prefixes of KIP-290).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest, DescribeAclsResponse,
};
use kafka_protocol::protocol::StrBytes;
use serde::{Deserialize, Serialize};

use crate::dev::broker::journal::{Change, Journal, Kind};
use crate::dev::broker::{Broker, Call, Session};

/// Kafka's numbers of resource types.
pub mod resource {
    pub const TOPIC: i8 = 2;
    pub const GROUP: i8 = 3;
    pub const CLUSTER: i8 = 4;
    pub const TRANSACTIONAL_ID: i8 = 5;
    pub const USER: i8 = 7;
}

/// Kafka's numbers of operations.
pub mod operation {
    pub const ALL: i8 = 2;
    pub const READ: i8 = 3;
    pub const WRITE: i8 = 4;
    pub const CREATE: i8 = 5;
    pub const DELETE: i8 = 6;
    pub const ALTER: i8 = 7;
    pub const DESCRIBE: i8 = 8;
    pub const CLUSTER_ACTION: i8 = 9;
    pub const DESCRIBE_CONFIGS: i8 = 10;
    pub const ALTER_CONFIGS: i8 = 11;
    pub const IDEMPOTENT_WRITE: i8 = 12;
    pub const DESCRIBE_TOKENS: i8 = 14;
    pub const LAST: i8 = DESCRIBE_TOKENS;
}

/// `ANY` of every enumeration.
const ANY: i8 = 1;
const MATCH: i8 = 2;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const DENY: i8 = 2;
const ALLOW: i8 = 3;
/// The only name of the cluster resource.
pub const CLUSTER_NAME: &str = "kafka-cluster";
const WILDCARD: &str = "*";

/// One ACL. The order is the one in which they are shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Acl {
    resource_type: i8,
    resource_name: String,
    pattern_type: i8,
    principal: String,
    host: String,
    operation: i8,
    permission: i8,
}

/// All ACLs.
#[derive(Debug)]
pub struct Acls(RwLock<BTreeSet<Acl>>);

impl Acls {
    pub(super) fn open(journal: &Journal) -> io::Result<Acls> {
        let acls = journal.read::<Acl>(Kind::Acl)?.into_iter().map(|(_, acl)| acl).collect();
        Ok(Acls(RwLock::new(acls)))
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeSet<Acl>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeSet<Acl>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether ACLs let a principal do something: no ACL that fits denies it, and one allows it or something that implies it.
    pub fn allow(&self, principal: &str, host: &str, operation: i8, resource_type: i8, name: &str) -> bool {
        let acls = self.read();
        let fitting: Vec<&Acl> =
            acls.iter().filter(|acl| acl.concerns(principal, host) && acl.covers(resource_type, name)).collect();
        let denied = fitting.iter().any(|acl| acl.permission == DENY && acl.names(operation));
        !denied && fitting.iter().any(|acl| acl.permission == ALLOW && acl.implies(operation))
    }

    /// Whether ACLs let a principal do something on any resource of a type.
    pub fn allow_any(&self, principal: &str, host: &str, operation: i8, resource_type: i8) -> bool {
        let acls = self.read();
        let mut allowing = acls.iter().filter(|acl| acl.permission == ALLOW && acl.resource_type == resource_type);
        let denied_all = acls.iter().any(|acl| {
            acl.permission == DENY
                && acl.resource_type == resource_type
                && acl.resource_name == WILDCARD
                && acl.concerns(principal, host)
                && acl.names(operation)
        });
        !denied_all && allowing.any(|acl| acl.concerns(principal, host) && acl.implies(operation))
    }
}

impl Acl {
    fn concerns(&self, principal: &str, host: &str) -> bool {
        (self.principal == principal || self.principal == "User:*") && (self.host == host || self.host == WILDCARD)
    }

    fn covers(&self, resource_type: i8, name: &str) -> bool {
        self.resource_type == resource_type
            && match self.pattern_type {
                PREFIXED => name.starts_with(&self.resource_name),
                _ => self.resource_name == name || self.resource_name == WILDCARD,
            }
    }

    fn names(&self, operation: i8) -> bool {
        self.operation == operation || self.operation == operation::ALL
    }

    /// Reading, writing, deleting and altering imply describing; altering configs implies describing them.
    fn implies(&self, operation: i8) -> bool {
        use operation::{ALTER, ALTER_CONFIGS, DELETE, DESCRIBE, DESCRIBE_CONFIGS, READ, WRITE};
        self.names(operation)
            || match operation {
                DESCRIBE => [READ, WRITE, DELETE, ALTER].contains(&self.operation),
                DESCRIBE_CONFIGS => self.operation == ALTER_CONFIGS,
                _ => false,
            }
    }

    /// Two equal ACLs have one key.
    fn change(&self) -> io::Result<(String, Change)> {
        let key = serde_json::to_string(self)?;
        Ok((key.clone(), Change::put(Kind::Acl, key, self)?))
    }
}

impl Broker {
    /// Whether the client may do `operation` on a resource. Everybody may everything unless ACLs are enforced.
    pub fn allows(&self, session: &Session, operation: i8, resource_type: i8, name: &str) -> bool {
        let principal = session.principal();
        let host = session.peer.ip().to_string();
        self.is_free(&principal) || self.security.acls.allow(&principal, &host, operation, resource_type, name)
    }

    /// Whether the client may do `operation` on some resource of a type.
    pub fn allows_any(&self, session: &Session, operation: i8, resource_type: i8) -> bool {
        let principal = session.principal();
        let host = session.peer.ip().to_string();
        self.is_free(&principal) || self.security.acls.allow_any(&principal, &host, operation, resource_type)
    }

    fn is_free(&self, principal: &str) -> bool {
        !self.settings.authorize || self.settings.super_users.iter().any(|user| user == principal)
    }
}

/// Which ACLs are meant.
struct Filter {
    resource_type: i8,
    name: Option<String>,
    pattern_type: i8,
    principal: Option<String>,
    host: Option<String>,
    operation: i8,
    permission: i8,
}

impl Filter {
    /// Why the filter can't be used.
    fn wrong(&self) -> Option<&'static str> {
        let all = [self.resource_type, self.pattern_type, self.operation, self.permission];
        if all.iter().any(|value| *value < ANY)
            || self.resource_type > resource::USER
            || self.pattern_type > PREFIXED
            || self.operation > operation::LAST
            || self.permission > ALLOW
        {
            return Some("the filter has a resource type, pattern type, operation or permission that is not known");
        }
        None
    }

    fn fits(&self, acl: &Acl) -> bool {
        let one = |wanted: i8, is: i8| wanted == ANY || wanted == is;
        let text = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        one(self.resource_type, acl.resource_type)
            && self.fits_name(acl)
            && text(&self.principal, &acl.principal)
            && text(&self.host, &acl.host)
            && one(self.operation, acl.operation)
            && one(self.permission, acl.permission)
    }

    fn fits_name(&self, acl: &Acl) -> bool {
        let pattern = matches!(self.pattern_type, ANY | MATCH) || self.pattern_type == acl.pattern_type;
        let named = self.name.as_ref().is_none_or(|name| match self.pattern_type {
            MATCH => acl.covers(acl.resource_type, name),
            _ => acl.resource_name == *name,
        });
        pattern && named
    }
}

fn owned(text: &Option<StrBytes>) -> Option<String> {
    text.as_ref().map(ToString::to_string)
}

/// Serves `DescribeAcls`.
pub async fn describe(broker: &Arc<Broker>, _: &Call, request: DescribeAclsRequest) -> DescribeAclsResponse {
    let filter = Filter {
        resource_type: request.resource_type_filter,
        name: owned(&request.resource_name_filter),
        pattern_type: request.pattern_type_filter,
        principal: owned(&request.principal_filter),
        host: owned(&request.host_filter),
        operation: request.operation,
        permission: request.permission_type,
    };
    let response = DescribeAclsResponse::default();
    if let Some(reason) = filter.wrong() {
        let message = Some(StrBytes::from_static_str(reason));
        return response.with_error_code(ResponseError::InvalidRequest.code()).with_error_message(message);
    }
    let mut resources: BTreeMap<(i8, String, i8), Vec<AclDescription>> = BTreeMap::new();
    for acl in broker.security.acls.read().iter().filter(|acl| filter.fits(acl)) {
        let description = AclDescription::default()
            .with_principal(StrBytes::from_string(acl.principal.clone()))
            .with_host(StrBytes::from_string(acl.host.clone()))
            .with_operation(acl.operation)
            .with_permission_type(acl.permission);
        resources.entry((acl.resource_type, acl.resource_name.clone(), acl.pattern_type)).or_default().push(description);
    }
    let resource = |((resource_type, name, pattern_type), acls)| {
        DescribeAclsResource::default()
            .with_resource_type(resource_type)
            .with_resource_name(StrBytes::from_string(name))
            .with_pattern_type(pattern_type)
            .with_acls(acls)
    };
    response.with_resources(resources.into_iter().map(resource).collect())
}

/// Serves `CreateAcls`: each creation by itself.
pub async fn create(broker: &Arc<Broker>, _: &Call, request: CreateAclsRequest) -> CreateAclsResponse {
    let result = |creation: &AclCreation| {
        let result = AclCreationResult::default();
        let failed = match created(broker, creation) {
            Ok(()) => return result,
            Err(failed) => failed,
        };
        result.with_error_code(failed.0.code()).with_error_message(Some(StrBytes::from_string(failed.1)))
    };
    CreateAclsResponse::default().with_results(request.creations.iter().map(result).collect())
}

fn created(broker: &Broker, creation: &AclCreation) -> Result<(), (ResponseError, String)> {
    let acl = Acl {
        resource_type: creation.resource_type,
        resource_name: creation.resource_name.to_string(),
        pattern_type: creation.resource_pattern_type,
        principal: creation.principal.to_string(),
        host: creation.host.to_string(),
        operation: creation.operation,
        permission: creation.permission_type,
    };
    if let Some(reason) = wrong(&acl) {
        return Err((ResponseError::InvalidRequest, reason.into()));
    }
    let failed = |error: io::Error| (ResponseError::KafkaStorageError, error.to_string());
    let mut acls = broker.security.acls.write();
    if !acls.contains(&acl) {
        broker.journal.write(&[acl.change().map_err(failed)?.1]).map_err(failed)?;
        acls.insert(acl);
    }
    Ok(())
}

/// Why no such ACL can be.
fn wrong(acl: &Acl) -> Option<&'static str> {
    match acl {
        Acl { resource_type, .. } if !(resource::TOPIC..=resource::USER).contains(resource_type) => {
            Some("the resource type is not one that ACLs can name")
        }
        Acl { resource_name, .. } if resource_name.is_empty() => Some("the resource name is empty"),
        Acl { resource_type: resource::CLUSTER, resource_name, .. } if resource_name != CLUSTER_NAME => {
            Some("the only name of the cluster resource is kafka-cluster")
        }
        Acl { pattern_type, .. } if ![LITERAL, PREFIXED].contains(pattern_type) => {
            Some("the pattern type is neither literal nor prefixed")
        }
        Acl { operation, .. } if !(operation::ALL..=operation::LAST).contains(operation) => {
            Some("the operation is not one that ACLs can name")
        }
        Acl { permission, .. } if ![DENY, ALLOW].contains(permission) => Some("the permission is neither allow nor deny"),
        Acl { principal, .. } if principal.split_once(':').is_none_or(|(kind, _)| kind.is_empty()) => {
            Some("the principal is not TYPE:NAME, such as User:alice")
        }
        _ => None,
    }
}

/// Serves `DeleteAcls`: each filter by itself, with what it deleted.
pub async fn delete(broker: &Arc<Broker>, _: &Call, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let results = request.filters.iter().map(|filter| deleted(broker, filter)).collect();
    DeleteAclsResponse::default().with_filter_results(results)
}

fn deleted(broker: &Broker, filter: &DeleteAclsFilter) -> DeleteAclsFilterResult {
    let filter = Filter {
        resource_type: filter.resource_type_filter,
        name: owned(&filter.resource_name_filter),
        pattern_type: filter.pattern_type_filter,
        principal: owned(&filter.principal_filter),
        host: owned(&filter.host_filter),
        operation: filter.operation,
        permission: filter.permission_type,
    };
    let result = DeleteAclsFilterResult::default();
    let refuse = |error: ResponseError, reason: String| {
        result.clone().with_error_code(error.code()).with_error_message(Some(StrBytes::from_string(reason)))
    };
    if let Some(reason) = filter.wrong() {
        return refuse(ResponseError::InvalidRequest, reason.into());
    }
    let mut acls = broker.security.acls.write();
    let matching: Vec<Acl> = acls.iter().filter(|acl| filter.fits(acl)).cloned().collect();
    let removal = |acl: &Acl| Ok(Change::remove(Kind::Acl, acl.change()?.0));
    let removals: io::Result<Vec<Change>> = matching.iter().map(removal).collect();
    if let Err(error) = removals.and_then(|removals| broker.journal.write(&removals)) {
        return refuse(ResponseError::KafkaStorageError, error.to_string());
    }
    acls.retain(|acl| !filter.fits(acl));
    let shown = |acl: Acl| {
        DeleteAclsMatchingAcl::default()
            .with_resource_type(acl.resource_type)
            .with_resource_name(StrBytes::from_string(acl.resource_name))
            .with_pattern_type(acl.pattern_type)
            .with_principal(StrBytes::from_string(acl.principal))
            .with_host(StrBytes::from_string(acl.host))
            .with_operation(acl.operation)
            .with_permission_type(acl.permission)
    };
    result.with_matching_acls(matching.into_iter().map(shown).collect())
}

#[cfg(test)]
mod tests {
    use super::operation::{ALL, ALTER, DESCRIBE, READ, WRITE};
    use super::*;

    fn acl(name: &str, pattern_type: i8, principal: &str, operation: i8, permission: i8) -> Acl {
        let text = str::to_owned;
        Acl {
            resource_type: resource::TOPIC,
            resource_name: text(name),
            pattern_type,
            principal: text(principal),
            host: text("*"),
            operation,
            permission,
        }
    }

    fn acls(acls: impl IntoIterator<Item = Acl>) -> Acls {
        Acls(RwLock::new(acls.into_iter().collect()))
    }

    fn may(acls: &Acls, user: &str, operation: i8, topic: &str) -> bool {
        acls.allow(user, "127.0.0.1", operation, resource::TOPIC, topic)
    }

    #[test]
    fn nothing_is_allowed_that_no_acl_allows() {
        assert!(!may(&acls([]), "User:a", READ, "t"));
    }

    #[test]
    fn literal_prefixed_and_wildcard_names() {
        let all = acls([
            acl("t", LITERAL, "User:a", READ, ALLOW),
            acl("acme.", PREFIXED, "User:a", WRITE, ALLOW),
            acl("*", LITERAL, "User:b", ALL, ALLOW),
        ]);
        assert!(may(&all, "User:a", READ, "t") && !may(&all, "User:a", READ, "tt"));
        assert!(may(&all, "User:a", WRITE, "acme.x") && !may(&all, "User:a", WRITE, "acme"));
        assert!(may(&all, "User:b", ALTER, "whatever") && !may(&all, "User:c", READ, "t"));
    }

    #[test]
    fn deny_wins_and_describing_is_implied() {
        let all = acls([
            acl("t", LITERAL, "User:a", READ, ALLOW),
            acl("*", LITERAL, "User:*", WRITE, DENY),
            acl("t", LITERAL, "User:a", WRITE, ALLOW),
        ]);
        assert!(may(&all, "User:a", DESCRIBE, "t"));
        assert!(!may(&all, "User:a", WRITE, "t"));
        assert!(!may(&all, "User:a", ALTER, "t"));
    }

    #[test]
    fn filters_find_by_name_by_match_and_by_pattern() {
        let any = |name: &str, pattern_type| Filter {
            resource_type: ANY,
            name: Some(name.into()),
            pattern_type,
            principal: None,
            host: None,
            operation: ANY,
            permission: ANY,
        };
        let prefix = acl("ac", PREFIXED, "User:a", READ, ALLOW);
        let literal = acl("acme", LITERAL, "User:a", READ, ALLOW);
        let wildcard = acl("*", LITERAL, "User:a", READ, ALLOW);
        let found = |filter: &Filter| [&prefix, &literal, &wildcard].map(|acl| filter.fits(acl));
        assert_eq!(found(&any("acme", MATCH)), [true, true, true]);
        assert_eq!(found(&any("acme", ANY)), [false, true, false]);
        assert_eq!(found(&any("ac", PREFIXED)), [true, false, false]);
        assert_eq!(found(&any("ac", LITERAL)), [false, false, false]);
    }

    #[test]
    fn what_no_acl_can_be_is_refused() {
        let good = acl("t", LITERAL, "User:a", READ, ALLOW);
        assert_eq!(wrong(&good), None);
        for bad in [
            Acl { resource_type: ANY, ..good.clone() },
            Acl { resource_name: String::new(), ..good.clone() },
            Acl { resource_type: resource::CLUSTER, ..good.clone() },
            Acl { pattern_type: MATCH, ..good.clone() },
            Acl { operation: ANY, ..good.clone() },
            Acl { permission: ANY, ..good.clone() },
            Acl { principal: "alice".into(), ..good },
        ] {
            assert!(wrong(&bad).is_some(), "{bad:?}");
        }
    }
}
