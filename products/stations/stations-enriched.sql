-- Each status with its station's information and its region's name as of the status's time.
-- Stations outside of all regions have no place here.
SELECT
  status.station_id,
  status.legacy_id,
  info.name,
  region.region_id,
  region.name AS region_name,
  info.external_id,
  info.short_name,
  info.station_type,
  info.capacity,
  info.lat,
  info.lon,
  info.has_kiosk,
  info.electric_bike_surcharge_waiver,
  info.eightd_has_key_dispenser,
  info.eightd_station_services,
  info.rental_methods,
  info.rental_uris,
  status.station_status,
  status.is_installed,
  status.is_renting,
  status.is_returning,
  status.last_reported,
  status.num_bikes_available,
  status.num_bikes_disabled,
  status.num_ebikes_available,
  status.num_docks_available,
  status.num_docks_disabled,
  status.num_scooters_available,
  status.num_scooters_unavailable,
  status.eightd_has_available_keys,
  status.eightd_active_station_services,
  status.valet
FROM stations_status AS status
JOIN stations_info AS info ON info.station_id = status.station_id
JOIN system_regions AS region ON region.region_id = info.region_id
