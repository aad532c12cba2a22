/** Of the views, below the dashboard's own path. */
export const paths = {
  account: '/settings/profile',
  accessTokens: '/settings/profile/access-tokens',
  members: '/settings/members/access-tokens',
} as const;
