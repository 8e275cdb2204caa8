package main

import (
	"github.com/shalestore/shale/idtools"
	"github.com/spf13/cobra"
)

// idMapFlags are the flags of the commands that make or show something with an ID map.
type idMapFlags struct {
	hostUIDs, hostGIDs   bool
	uidMap, gidMap       string
	subUIDsOf, subGIDsOf string
}

// idMappingFlags are for what may have a parent with a map.
func idMappingFlags(command *cobra.Command) *idMapFlags {
	f := mapFlags(command)
	flags := command.Flags()
	flags.BoolVar(&f.hostUIDs, "hostuidmap", false, "user IDs are the host's, whatever the parent's map")
	flags.BoolVar(&f.hostGIDs, "hostgidmap", false, "group IDs are the host's, whatever the parent's map")
	return f
}

func mapFlags(command *cobra.Command) *idMapFlags {
	f := &idMapFlags{}
	flags := command.Flags()
	flags.StringVar(&f.uidMap, "uidmap", "", "map user IDs as `CONTAINER:HOST:SIZE[,...]` says")
	flags.StringVar(&f.gidMap, "gidmap", "", "map group IDs as `CONTAINER:HOST:SIZE[,...]` says")
	flags.StringVar(&f.subUIDsOf, "subuidmap", "", "map user IDs to those of `USER` in /etc/subuid")
	flags.StringVar(&f.subGIDsOf, "subgidmap", "", "map group IDs to those of `GROUP` in /etc/subgid")
	return f
}

// mapping is what the flags say. One of --subuidmap and --subgidmap stands for both.
func (f *idMapFlags) mapping() (idtools.Mapping, error) {
	var mapping idtools.Mapping
	if f.hostUIDs && (f.uidMap != "" || f.subUIDsOf != "") {
		return mapping, usageError("--hostuidmap says that user IDs are not mapped: give no map of them as well")
	}
	if f.hostGIDs && (f.gidMap != "" || f.subGIDsOf != "") {
		return mapping, usageError("--hostgidmap says that group IDs are not mapped: give no map of them as well")
	}
	user, group := f.subUIDsOf, f.subGIDsOf
	if user == "" {
		user = group
	}
	if group == "" {
		group = user
	}
	if user != "" {
		var err error
		var files idtools.SubIDFiles
		if mapping.UIDs, err = files.UIDs(user); err != nil {
			return mapping, err
		}
		if mapping.GIDs, err = files.GIDs(group); err != nil {
			return mapping, err
		}
	}
	uids, err := idtools.ParseMaps(f.uidMap)
	if err != nil {
		return mapping, usageErrorf("--uidmap: %v", err)
	}
	gids, err := idtools.ParseMaps(f.gidMap)
	if err != nil {
		return mapping, usageErrorf("--gidmap: %v", err)
	}
	mapping.UIDs = append(mapping.UIDs, uids...)
	mapping.GIDs = append(mapping.GIDs, gids...)
	return mapping, nil
}
