-- The statements of the Postgres store. {alleles}, {locations} and {sequence_references} stand for the
-- tables' quoted names; the tables are those that AnyVar's object-relational mapping makes.

-- name: lock_schema
SELECT pg_advisory_xact_lock(7234114926371820)

-- name: limit_locks
SELECT set_config('lock_timeout', %s, true)

-- name: columns
SELECT attname, format_type(atttypid, NULL), attnotnull AND NOT atthasdef
FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped

-- name: create_extension
CREATE EXTENSION IF NOT EXISTS btree_gist

-- name: has_molecule_type
SELECT to_regtype('molecule_type') IS NOT NULL

-- name: create_molecule_type
CREATE TYPE molecule_type AS ENUM ('genomic', 'RNA', 'mRNA', 'protein')

-- name: create_sequence_references
CREATE TABLE {sequence_references} (
    id VARCHAR NOT NULL,
    molecule_type molecule_type,
    PRIMARY KEY (id)
)

-- name: create_locations
CREATE TABLE {locations} (
    id VARCHAR NOT NULL,
    sequence_reference_id VARCHAR NOT NULL,
    start_pos INTEGER,
    end_pos INTEGER,
    start_outer INTEGER,
    start_inner INTEGER,
    end_outer INTEGER,
    end_inner INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY (sequence_reference_id) REFERENCES {sequence_references} (id)
)

-- name: has_locations_index
SELECT to_regclass('ix_location_ref_overlap') IS NOT NULL

-- name: create_locations_index
CREATE INDEX ix_location_ref_overlap ON {locations}
    USING gist (sequence_reference_id, int8range(start_pos, end_pos, '[]'))

-- name: create_own_locations_index
CREATE INDEX ON {locations} USING gist (sequence_reference_id, int8range(start_pos, end_pos, '[]'))

-- name: create_alleles
CREATE TABLE {alleles} (
    id VARCHAR NOT NULL,
    location_id VARCHAR NOT NULL,
    state JSONB NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (location_id) REFERENCES {locations} (id)
)

-- name: rights
SELECT current_user,
    current_setting('transaction_read_only')::boolean,
    (SELECT string_agg(t, ', ') FROM unnest(%s::text[]) t
     WHERE NOT has_table_privilege(t, 'SELECT') OR NOT has_table_privilege(t, 'INSERT')),
    has_database_privilege(current_database(), 'TEMP')

-- name: unknown
SELECT u.id FROM unnest(string_to_array(%s, ',')) AS u (id)
WHERE NOT EXISTS (SELECT FROM {alleles} a WHERE a.id = u.id)

-- name: begin_batch
CREATE TEMPORARY TABLE IF NOT EXISTS anyvar_step_locations (
    id VARCHAR, sequence_reference_id VARCHAR, start_pos INTEGER, end_pos INTEGER
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS anyvar_step_alleles (
    id VARCHAR, location_id VARCHAR, state JSONB
) ON COMMIT DELETE ROWS

-- name: copy_locations
COPY anyvar_step_locations FROM STDIN

-- name: copy_alleles
COPY anyvar_step_alleles FROM STDIN

-- name: copy_new_locations
COPY {locations} (id, sequence_reference_id, start_pos, end_pos) FROM STDIN

-- name: copy_new_alleles
COPY {alleles} (id, location_id, state) FROM STDIN

-- name: insert_sequence_references
INSERT INTO {sequence_references} (id)
SELECT u.id FROM unnest(string_to_array(%s, ',')) AS u (id) ORDER BY u.id COLLATE "C"
ON CONFLICT DO NOTHING

-- name: insert_locations
INSERT INTO {locations} (id, sequence_reference_id, start_pos, end_pos)
SELECT id, sequence_reference_id, start_pos, end_pos FROM anyvar_step_locations ORDER BY id COLLATE "C"
ON CONFLICT DO NOTHING

-- name: insert_alleles
INSERT INTO {alleles} (id, location_id, state)
SELECT id, location_id, state FROM anyvar_step_alleles ORDER BY id COLLATE "C"
ON CONFLICT DO NOTHING
