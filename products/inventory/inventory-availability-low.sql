-- Stations at most a quarter full that have docks free for what they lack. The shortage is what is missing to half the
-- capacity.
SELECT
  station_id,
  name,
  region_name,
  lat,
  lon,
  capacity,
  num_bikes_available,
  num_docks_available,
  capacity / 2 - num_bikes_available AS shortage
FROM stations_enriched
WHERE capacity + num_bikes_available + num_docks_available <> 0
  AND num_bikes_available <= round(0.25 * capacity)
  AND num_docks_available >= capacity / 2 - num_bikes_available
